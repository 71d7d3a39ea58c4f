import { afterEach, expect, it } from 'vitest'
import { ImportRun, type ImportRunParts } from '../../../src/attach/import-run.ts'
import { Imports } from '../../../src/attach/imports.ts'
import { END } from '../../../src/attach/key-order.ts'
import type { AttachedNames, SeenPage } from '../../../src/attach/ports.ts'
import { HandClock } from '../../conformance/hand-clock.ts'
import { mirrorFixture, type MirrorFixture } from './mirror-fixture.ts'
import { turns } from './write-back-fixture.ts'

const fixtures: MirrorFixture[] = []
afterEach(async () => {
  for (const fixture of fixtures.splice(0)) await fixture.stop()
})

async function far(): Promise<MirrorFixture> {
  const fixture = await mirrorFixture()
  fixtures.push(fixture)
  return fixture
}

function partsOf({ names }: MirrorFixture, more: Partial<ImportRunParts> = {}): ImportRunParts {
  return { names, clock: new HandClock(), concurrency: 4, ...more }
}

/** All that the mirror knows, without asking outside. */
async function known({ namespace }: MirrorFixture): Promise<string[]> {
  const keys: string[] = []
  for (let after: string | undefined = ''; after !== undefined;) {
    const page = await namespace.list({ bucket: 'far', prefix: '', after, delimiter: '', limit: 1000 })
    keys.push(...page.objects.map(({ key }) => key))
    after = page.next
  }
  return keys
}

const SHAPES = {
  numbered: Array.from({ length: 12_000 }, (_, index) => `img-${String(index).padStart(7, '0')}.jpg`),
  'in directories': Array.from({ length: 9000 }, (_, index) => `data/${index % 40}/${index % 7}/${index}`),
  few: ['a', 'b/c'],
  none: [],
} as const

it.each(Object.keys(SHAPES) as (keyof typeof SHAPES)[])('lists all keys when they are %s', async (shape) => {
  const fixture = await far()
  for (const key of SHAPES[shape]) fixture.external.outsidePut(key, key)
  const run = new ImportRun(partsOf(fixture), fixture.attached, { again: false })
  await run.done
  // Each key is counted once, wherever ranges were cut.
  const keys = SHAPES[shape].length
  expect(run.status).toMatchObject({ state: 'done', problem: undefined, rangesLeft: 0, share: 1, keys, changed: keys })
  expect(await known(fixture)).toEqual([...SHAPES[shape]].sort())
  const covered = await fixture.names.covered(fixture.attached.record.bucketId, { kind: 'deep' }, '', 0)
  expect(covered?.through).toBe(END)
  // Hardly any page was asked for twice, nor many keys for cuts.
  expect(run.status.requests).toBeLessThan(SHAPES[shape].length / 1000 + 150)
})

it('lists with several at once', async () => {
  const fixture = await far()
  for (const key of SHAPES.numbered) fixture.external.outsidePut(key, '')
  let [under, most] = [0, 0]
  const list = fixture.external.list.bind(fixture.external)
  fixture.external.list = async (request) => {
    most = Math.max(most, ++under)
    try {
      await turns(2)
      return await list(request)
    } finally {
      under--
    }
  }
  const run = new ImportRun(partsOf(fixture), fixture.attached, { again: false })
  await run.done
  expect(run.status).toMatchObject({ state: 'done', keys: SHAPES.numbered.length })
  expect(await known(fixture)).toHaveLength(SHAPES.numbered.length)
  expect(most).toBeGreaterThanOrEqual(3)
})

it('goes on where it was when it was stopped: what is covered is not listed again', async () => {
  const fixture = await far()
  for (const key of SHAPES.numbered) fixture.external.outsidePut(key, '')
  let pages = 0
  const stopping: AttachedNames = {
    ...fixture.names,
    merge: async (page: SeenPage) => {
      const merged = await fixture.names.merge(page)
      if (page.objects.length > 0 && ++pages === 6) first.stop()
      return merged
    },
  }
  const first = new ImportRun(partsOf(fixture, { names: stopping }), fixture.attached, { again: false })
  await first.done
  expect(first.status).toMatchObject({ state: 'stopped', problem: undefined })
  const listed = (await known(fixture)).length
  expect(listed).toBeGreaterThan(5000)
  expect(listed).toBeLessThan(SHAPES.numbered.length)
  const second = new ImportRun(partsOf(fixture), fixture.attached, { again: false })
  await second.done
  expect(second.status.state).toBe('done')
  expect(await known(fixture)).toHaveLength(SHAPES.numbered.length)
  expect(second.status.keys).toBeLessThanOrEqual(SHAPES.numbered.length - listed + 1000)
  const third = new ImportRun(partsOf(fixture), fixture.attached, { again: false })
  await third.done
  expect(third.status).toMatchObject({ state: 'done', keys: 0 })
})

it('finds what was changed outside since, when it is to list again', async () => {
  const fixture = await far()
  fixture.external.outsidePut('a', '1')
  fixture.external.outsidePut('b', '1')
  await new ImportRun(partsOf(fixture, { clock: fixture.clock }), fixture.attached, { again: false }).done
  fixture.clock.ms += 1000
  fixture.external.outsideDelete('a')
  fixture.external.outsidePut('c', '1')
  const run = new ImportRun(partsOf(fixture, { clock: fixture.clock }), fixture.attached, { again: true })
  await run.done
  expect(await known(fixture)).toEqual(['b', 'c'])
  expect(run.status.changed).toBe(2)
})

it('waits for a store that is down, and says so; not for one that refuses', async () => {
  const fixture = await far()
  fixture.external.outsidePut('a', '1')
  const clock = new HandClock()
  fixture.external.down = true
  const run = new ImportRun(partsOf(fixture, { clock }), fixture.attached, { again: false })
  await turns()
  expect(run.status).toMatchObject({ state: 'running', problem: expect.stringContaining('down') })
  fixture.external.down = false
  await clock.advance(1000)
  await run.done
  expect(run.status).toMatchObject({ state: 'done', keys: 1, problem: undefined })
  fixture.external.revoked = true
  const refused = new ImportRun(partsOf(fixture, { clock }), fixture.attached, { again: true })
  await refused.done
  expect(refused.status).toMatchObject({ state: 'failed', problem: expect.stringContaining('revoked') })
})

it('runs one at a time for each bucket, and remembers the last', async () => {
  const fixture = await far()
  const pause = fixture.external.pauseNth('list')
  const imports = new Imports(partsOf(fixture))
  const { bucketId } = fixture.attached.record
  expect(imports.status(bucketId)).toBeUndefined()
  const begun = imports.start(fixture.attached, { again: false })
  await pause.reached
  expect(imports.start(fixture.attached, { again: false }).startedMs).toBe(begun.startedMs)
  expect(fixture.external.calls('list')).toBe(1)
  expect(await imports.cancel(bucketId)).toMatchObject({ state: 'stopped' })
  pause.release()
  imports.start(fixture.attached, { again: false })
  await turns(50)
  expect(imports.status(bucketId)).toMatchObject({ state: 'done' })
  await imports.stop()
  expect(() => imports.start(fixture.attached, { again: false })).toThrow('stops')
})
