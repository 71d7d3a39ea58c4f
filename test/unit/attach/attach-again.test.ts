/** Detached and attached again: nothing of the old attachment is left over, nor shown by the new one. */
import { afterEach, expect, it } from 'vitest'
import { externalSegment } from '../../../src/common/external.ts'
import type { ByteString } from '../../../src/common/ids.ts'
import { BUCKET_COUNT_KEY, FORMER_PLACES, SEQUENCES, segmentLiveKey } from '../../../src/meta/namespace/keys.ts'
import type { ObjectVersion } from '../../../src/common/model.ts'
import { checkNamespace } from '../../model/check-namespace.ts'
import { begin, REQUEST, world, type Run } from './control-fixture.ts'
import { turns } from './write-back-fixture.ts'

const runs: Run[] = []
afterEach(async () => {
  for (const run of runs.splice(0)) await run.stop()
})

async function process(from?: Run): Promise<Run> {
  const run = await begin(from ?? (await world()))
  runs.push(run)
  return run
}

const ELSEWHERE = { ...REQUEST, url: 's3://elsewhere/photos' }

const detach = (run: Run, force = false) => run.moving(run.control.detach({ bucket: 'far', force, waitMsMax: 10_000 }))

async function keysOf(run: Run): Promise<string[]> {
  const { objects } = await run.metadata.list({ bucket: 'far', prefix: '', after: '', delimiter: '', limit: 1000 })
  return objects.map(({ key }) => key)
}

const lookup = async (run: Run, key: string): Promise<ObjectVersion> => await run.metadata.lookup('far', key)

const segmentOf = ({ body }: ObjectVersion, bucketId: number): string => {
  if (body.kind !== 'external') throw new Error('it does not lie outside')
  return externalSegment(bucketId, body.external)
}

/** What outlives a bucket: sequences, the log of changes, how many buckets there are, and where something was, which age on their own. */
const LASTING = [SEQUENCES, 'J', BUCKET_COUNT_KEY, FORMER_PLACES] as const

async function rowsOf({ here }: Run): Promise<string[]> {
  await here.reclaim()
  const range = { start: '' as ByteString, end: '\xff\xff' as ByteString }
  const rows = await here.store.read((view) => view.scan(range, 100_000))
  // Of ours, not of an external one.
  const lasting = [...LASTING, segmentLiveKey(here.segment)]
  return rows.map(({ key }) => key).filter((key) => !lasting.some((prefix) => key.startsWith(prefix)))
}

/** Changed in every way there is, and looked at. */
async function use(run: Run): Promise<void> {
  const { here, external } = run
  for (const key of external.snapshot().keys()) external.outsideDelete(key)
  for (const key of ['a', 'big', 'd/b', 'd/e/c', 'gone', 'moved/x', 'r']) external.outsidePut(key, `theirs ${key}`)
  await keysOf(run)
  await run.metadata.list({ bucket: 'far', prefix: 'd/', after: '', delimiter: '/', limit: 1000 })
  await run.put('d/ours', 'ours')
  await here.put('far', 'short-lived', { bytes: 'x', ttlMs: 60_000 })
  await here.remove('far', 'gone')
  await here.namespace.rename({ bucket: 'far', from: 'moved/', to: 'there/', replace: false })
  await here.namespace.rename({ bucket: 'far', from: 'r', to: 's', replace: false })
}

/** What lies outside is referred to by a leaf, and a row says what that is. */
async function editInPlace({ here, metadata }: Run, key: string): Promise<void> {
  const { inode, size } = await metadata.lookup('far', key)
  const content = await here.namespace.allocateContentId()
  const run = { content, segment: here.segment, segmentOffset: 0, length: 3 }
  const edits = [{ offset: 1, length: 3, run }]
  await here.namespace.files.publishFile({ inode, edits, inline: undefined, size, modified: undefined, ack: 'journal' })
}

it('leaves no row of the old attachment, whether all was carried out or is given up', async () => {
  const run = await process()
  const before = await rowsOf(run)
  for (const force of [false, true]) {
    await run.control.attach(REQUEST)
    await use(run)
    if (force) {
      run.external.down = true
      await run.put('waits', 'lost')
      await editInPlace(run, 'big')
    }
    expect(await detach(run, force)).toMatchObject({ detached: true, forgotten: true })
    run.external.down = false
    const left = (await rowsOf(run)).filter((key) => !before.includes(key))
    expect(left.map((key) => JSON.stringify(key))).toEqual([])
    await checkNamespace(run.here.store)
  }
})

it('shows what lies at the same place, and other blocks than before', async () => {
  const run = await process()
  const { value: first } = { value: (await run.control.attach(REQUEST)).record }
  run.external.outsidePut('k', 'same')
  const old = await lookup(run, 'k')
  await detach(run)
  const second = (await run.control.attach(REQUEST)).record
  expect(second.bucketId).not.toBe(first.bucketId)
  expect(segmentOf(await lookup(run, 'k'), second.bucketId)).not.toBe(segmentOf(old, first.bucketId))
  run.external.outsidePut('k', 'another')
  await run.clock.advance(REQUEST.ttlMs)
  expect((await lookup(run, 'k')).size).toBe(7)
  await run.put('k', 'ours')
  await run.moving(run.writeBack.drain({ waitMsMax: 5000 }))
  expect(run.read('k')).toBe('ours')
})

it('shows nothing of one place at another, after a restart in between too', async () => {
  let run = await process()
  await run.control.attach(REQUEST)
  await use(run)
  await detach(run, true)
  for (const restart of [false, true]) {
    if (restart) run = await process(run)
    run.outside.get(ELSEWHERE.url)?.outsidePut('k', 'elsewhere')
    await run.control.attach(ELSEWHERE)
    run.outside.get(ELSEWHERE.url)?.outsidePut('k', 'elsewhere')
    await run.clock.advance(REQUEST.listingTtlMs)
    expect(await keysOf(run)).toEqual(['k'])
    await expect(lookup(run, 'd/b')).rejects.toMatchObject({ code: 'NoSuchKey' })
    expect(await detach(run)).toMatchObject({ detached: true, left: { keys: 0 } })
  }
})

it('takes what was given up by force from outside, as it lies there', async () => {
  const run = await process()
  await run.control.attach(REQUEST)
  run.external.outsidePut('k', 'theirs')
  run.external.outsidePut('d/x', 'x')
  await keysOf(run)
  run.external.down = true
  await run.put('k', 'ours')
  await run.here.remove('far', 'd/x')
  expect(await detach(run, true)).toMatchObject({ detached: true, left: { keys: 2 } })
  run.external.down = false
  await run.control.attach(REQUEST)
  await run.clock.advance(5000)
  await turns()
  expect(await keysOf(run)).toEqual(['d/x', 'k'])
  expect((await lookup(run, 'k')).size).toBe('theirs'.length)
  expect(run.read('k')).toBe('theirs')
})

it('is not attached again under its name before the old one is forgotten, after a restart too', async () => {
  const run = await process()
  await run.control.attach(REQUEST)
  await use(run)
  const { record } = await run.attachments.setPhase('far', 'forgetting')
  await expect(run.control.attach(ELSEWHERE)).rejects.toMatchObject({ code: 'InvalidBucketState' })
  // Killed after some steps.
  await run.names.forget(record)
  const next = await process(run)
  await next.moving(Promise.resolve())
  await turns(100)
  await next.control.attach(ELSEWHERE)
  expect(await keysOf(next)).toEqual([])
})

it('forgets nothing of another bucket that has its name by now', async () => {
  const run = await process()
  const { record } = await run.control.attach(REQUEST)
  await run.put('k', 'text')
  expect((await run.names.forget({ ...record, bucketId: record.bucketId - 1 })).value).toBe(false)
  expect(await keysOf(run)).toEqual(['k'])
})
