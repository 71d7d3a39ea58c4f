import { afterEach, expect, it } from 'vitest'
import { Comparisons } from '../../../src/attach/compare.ts'
import { HandClock } from '../../conformance/hand-clock.ts'
import { mirrorFixture, type MirrorFixture } from './mirror-fixture.ts'
import { turns } from './write-back-fixture.ts'

const INTERVAL_MS = 600_000
const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

async function begin(compareIntervalMs = INTERVAL_MS) {
  const fixture = await mirrorFixture({ compareIntervalMs })
  const pauses = new HandClock()
  const failures: string[] = []
  // Rows are as old as the fixture's clock says; pauses are the test's.
  const clock = {
    nowMs: () => fixture.clock.ms,
    monotonicMs: () => pauses.monotonicMs(),
    sleep: pauses.sleep.bind(pauses),
  }
  const comparisons = new Comparisons({
    names: fixture.names,
    clock,
    onFailure: (doing) => failures.push(doing),
  })
  comparisons.add(fixture.attached)
  stops.push(async () => {
    await comparisons.stop()
    await fixture.stop()
  })
  const pass = async (rounds = 40): Promise<void> => {
    for (let round = 0; round < rounds; round++) {
      await pauses.advance(500)
      await turns(10)
    }
  }
  const older = async (ms: number): Promise<void> => {
    fixture.clock.ms += ms
    await pauses.advance(ms)
    await turns(10)
  }
  return { ...fixture, comparisons, failures, pass, older }
}

async function known({ namespace }: Pick<MirrorFixture, 'namespace'>): Promise<string[]> {
  const keys: string[] = []
  for (let after: string | undefined = ''; after !== undefined;) {
    const page = await namespace.list({ bucket: 'far', prefix: '', after, delimiter: '', limit: 1000 })
    keys.push(...page.objects.map(({ key }) => key))
    after = page.next
  }
  return keys
}

const status = ({ comparisons, attached }: Awaited<ReturnType<typeof begin>>) =>
  comparisons.status(attached.record.bucketId)

it('finds what was changed outside in all that was listed, once that is old enough', async () => {
  const run = await begin()
  for (let index = 0; index < 2500; index++) run.external.outsidePut(`deep/${index}`, 'x')
  await run.metadata.list({ bucket: 'far', prefix: '', after: '', delimiter: '/', limit: 10 })
  await run.freshness.ensureWhole(run.attached, 'deep/')
  run.external.outsidePut('new', 'x')
  run.external.outsidePut('deep/2', 'changed')
  run.external.outsideDelete('deep/1')
  const lists = run.external.calls('list')
  await run.older(INTERVAL_MS / 2)
  await run.pass()
  expect(run.external.calls('list')).toBe(lists)
  await run.older(INTERVAL_MS)
  await run.pass()
  expect(status(run)).toMatchObject({ changed: 3, completedMs: expect.any(Number), lastError: undefined })
  const keys = await known(run)
  expect([keys.includes('new'), keys.includes('deep/1')]).toEqual([true, false])
  // Each page once.
  expect(run.external.calls('list') - lists).toBeLessThanOrEqual(5)
})

it('lists what was listed, once, and never what nobody listed', async () => {
  const run = await begin()
  for (let index = 0; index < 3000; index++) run.external.outsidePut(`d/${index}`, 'x')
  run.external.outsidePut('other/x', 'x')
  await run.metadata.list({ bucket: 'far', prefix: 'other/', after: '', delimiter: '/', limit: 10 })
  const before = run.external.operations.length
  await run.older(INTERVAL_MS * 2)
  await run.pass()
  const asked = run.external.operations.slice(before).map(({ method, key }) => `${method} ${key}`)
  expect(asked).toEqual(['list other/'])
})

it('does nothing where it is switched off', async () => {
  const run = await begin(0)
  run.external.outsidePut('a', 'x')
  await run.metadata.list({ bucket: 'far', prefix: '', after: '', delimiter: '', limit: 10 })
  const lists = run.external.calls('list')
  await run.older(INTERVAL_MS * 100)
  await run.pass()
  expect(run.external.calls('list')).toBe(lists)
})

it('leaves a store that is down alone for longer and longer, and goes on afterwards', async () => {
  const run = await begin()
  run.external.outsidePut('a', 'x')
  await run.metadata.list({ bucket: 'far', prefix: '', after: '', delimiter: '', limit: 10 })
  run.external.down = true
  const lists = run.external.calls('list')
  await run.older(INTERVAL_MS * 2)
  await run.pass(60)
  expect(run.external.calls('list') - lists).toBeLessThan(8)
  expect(status(run)?.lastError).toContain('down')
  run.external.down = false
  run.external.outsideDelete('a')
  await run.older(60_000)
  await run.pass()
  expect(await known(run)).toEqual([])
})
