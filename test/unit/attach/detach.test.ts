import { afterEach, expect, it } from 'vitest'
import { begin, REQUEST, world, type Run } from './control-fixture.ts'
import { turns } from './write-back-fixture.ts'

const runs: Run[] = []
afterEach(async () => {
  for (const run of runs.splice(0)) await run.stop()
})

async function attached(from?: Run): Promise<Run> {
  const run = await begin(from ?? (await world()))
  runs.push(run)
  if (!from) await run.control.attach(REQUEST)
  return run
}

const detach = (run: Run, options: { force?: boolean; waitMsMax?: number } = {}) =>
  run.moving(run.control.detach({ bucket: 'far', force: false, waitMsMax: 10_000, ...options }))

it('carries out what was written, forgets the bucket, and leaves the external one complete', async () => {
  const run = await attached()
  run.external.outsidePut('theirs', 'theirs')
  for (let index = 0; index < 30; index++) await run.put(`d/${index}`, `text ${index}`)
  const outcome = await detach(run)
  expect(outcome).toMatchObject({ detached: true, forgotten: true, left: { keys: 0, conflicts: 0 } })
  expect(run.external.snapshot().size).toBe(31)
  expect(run.read('d/29')).toBe('text 29')
  expect(run.attachments.isEmpty).toBe(true)
  expect(await run.names.attachments()).toEqual([])
  await expect(run.here.namespace.bucket('far')).rejects.toMatchObject({ code: 'NoSuchBucket' })
  await expect(run.control.get('far')).rejects.toMatchObject({ code: 'NoSuchBucket' })
  // The name is free.
  await run.control.attach(REQUEST)
  const listed = await run.metadata.list({ bucket: 'far', prefix: '', after: '', delimiter: '', limit: 100 })
  expect(listed.objects).toHaveLength(31)
})

it('takes no write from the first moment on, in the transaction itself (C1)', async () => {
  const run = await attached()
  const pause = run.external.pauseNth('put')
  await run.put('before', 'text')
  const detaching = run.control.detach({ bucket: 'far', force: false, waitMsMax: 10_000 })
  await run.clock.advance(200)
  await pause.reached
  await expect(run.put('late', 'text')).rejects.toMatchObject({ code: 'InvalidBucketState' })
  await expect(run.here.remove('far', 'before')).rejects.toMatchObject({ code: 'InvalidBucketState' })
  pause.release()
  expect(await run.moving(detaching)).toMatchObject({ detached: true })
  expect([run.read('before'), run.read('late')]).toEqual(['text', undefined])
})

it('refuses while something is left, says what and why, and opens the bucket again', async () => {
  const run = await attached()
  run.external.revoked = true
  await run.put('k', 'ours')
  const outcome = await detach(run, { waitMsMax: 2000 })
  expect(outcome).toMatchObject({
    detached: false,
    left: { keys: 1, conflicts: 0, listed: [{ key: 'k', isConflict: false, cause: { code: 'AccessDenied' } }] },
  })
  await expect(run.put('k2', 'x')).rejects.toMatchObject({ code: 'InvalidBucketState' })
  await run.clock.advance(10_000)
  await turns()
  await run.put('k2', 'x')
  run.external.revoked = false
  expect(await detach(run, { waitMsMax: 60_000 })).toMatchObject({ detached: true })
  expect(run.read('k2')).toBe('x')
})

it('stays closed as long as somebody asks', async () => {
  const run = await attached()
  run.external.revoked = true
  await run.put('k', 'ours')
  for (let round = 0; round < 3; round++) {
    expect(await detach(run, { waitMsMax: 1000 })).toMatchObject({ detached: false })
    await run.clock.advance(8000)
    await expect(run.put('k2', 'x')).rejects.toMatchObject({ code: 'InvalidBucketState' })
  }
})

it('stays closed for who still drains, when another one who asked gave up', async () => {
  const run = await attached()
  run.external.revoked = true
  await run.put('k', 'ours')
  const patient = run.control.detach({ bucket: 'far', force: false, waitMsMax: 30_000 })
  expect(await detach(run, { waitMsMax: 1000 })).toMatchObject({ detached: false })
  // What is acknowledged between his last look and the end would be lost.
  await run.clock.advance(15_000)
  await turns()
  await expect(run.put('k2', 'x')).rejects.toMatchObject({ code: 'InvalidBucketState' })
  run.external.revoked = false
  expect(await run.moving(patient)).toMatchObject({ detached: true, left: { keys: 0 } })
  expect(run.read('k')).toBe('ours')
})

it('is opened again by the last who asked', async () => {
  const run = await attached()
  run.external.revoked = true
  await run.put('k', 'ours')
  const patient = run.control.detach({ bucket: 'far', force: false, waitMsMax: 5000 })
  await detach(run, { waitMsMax: 1000 })
  expect(await run.moving(patient)).toMatchObject({ detached: false })
  await run.clock.advance(10_000)
  await turns()
  await run.put('k2', 'x')
})

it('does not go on with a bucket that was detached by another and attached again', async () => {
  const run = await attached()
  run.external.revoked = true
  await run.put('k', 'ours')
  const patient = run.control.detach({ bucket: 'far', force: false, waitMsMax: 30_000 })
  await turns()
  expect(await detach(run, { force: true, waitMsMax: 0 })).toMatchObject({ detached: true, left: { keys: 1 } })
  await turns(50)
  run.external.revoked = false
  await run.control.attach(REQUEST)
  await run.put('k2', 'kept')
  expect(await run.moving(patient)).toMatchObject({ detached: true })
  expect((await run.control.get('far')).record.phase).toBeUndefined()
  await run.put('k3', 'x')
})

it('what expires meanwhile goes, here and in other buckets (C31)', async () => {
  const run = await attached()
  const { here } = run
  await here.bucket('near')
  await here.put('near', 'short-lived', { bytes: 'x', ttlMs: 1000 })
  await here.put('far', 'a', { bytes: 'x', ttlMs: 1000 })
  await run.moving(run.writeBack.drain({ waitMsMax: 5000 }))
  await here.put('far', 'b', { bytes: 'x', ttlMs: 1000 })
  for (const phase of ['closing', 'forgetting'] as const) {
    await run.attachments.setPhase('far', phase)
    here.clock.ms += 2000
    await here.expireAll()
    if (phase === 'forgetting') break
    expect(await run.names.dirtyKeys(1, '', 10)).toMatchObject([{ key: 'a' }, { key: 'b' }])
    await run.moving(run.writeBack.drain({ waitMsMax: 5000 }))
    expect(run.external.snapshot().size).toBe(0)
  }
  const record = run.attachments.forgetting()[0]!
  while ((await run.names.forget(record)).value);
  expect(await run.names.attachments()).toEqual([])
})

it('lists conflicts, which only force gives up; then it says how much is lost', async () => {
  const run = await attached()
  await run.put('k', 'ours')
  run.external.outsidePut('k', 'theirs')
  const refused = await detach(run)
  expect(refused).toMatchObject({
    detached: false,
    left: { keys: 0, conflicts: 1, listed: [{ key: 'k', isConflict: true }] },
  })
  const forced = await detach(run, { force: true })
  expect(forced).toMatchObject({ detached: true, forgotten: true, left: { keys: 0, conflicts: 1 } })
  expect(run.read('k')).toBe('theirs')
})

it('does not wait while carrying out is paused', async () => {
  const run = await attached()
  run.control.pause()
  await run.put('k', 'ours')
  expect(await detach(run)).toMatchObject({ detached: false, left: { keys: 1, paused: true } })
})

it('goes on forgetting after a crash, and shows nothing of it meanwhile', async () => {
  const run = await attached()
  for (let index = 0; index < 50; index++) run.external.outsidePut(`d/${index}`, 'x')
  await run.metadata.list({ bucket: 'far', prefix: '', after: '', delimiter: '', limit: 1000 })
  await run.names.forget((await run.attachments.setPhase('far', 'forgetting')).record)
  // The process is killed here: nothing of it is told that it is forgotten.
  const next = await begin(run)
  runs.push(next)
  expect(next.attachments.ofId(1)).toBeUndefined()
  await turns(50)
  expect(await next.names.attachments()).toEqual([])
  expect(next.attachments.isEmpty).toBe(true)
  expect(next.external.snapshot().size).toBe(50)
})

it('is open again after a crash while it was about to be detached', async () => {
  const run = await attached()
  await run.attachments.setPhase('far', 'closing')
  await expect(run.put('k', 'x')).rejects.toMatchObject({ code: 'InvalidBucketState' })
  const next = await begin(run)
  runs.push(next)
  await next.put('k', 'x')
})

it('shows nothing of a bucket that is being forgotten, and takes nothing for it', async () => {
  const run = await attached()
  run.external.outsidePut('k', 'x')
  await run.attachments.setPhase('far', 'forgetting')
  const request = { bucket: 'far', prefix: '', after: '', delimiter: '', limit: 10 }
  await expect(async () => await run.metadata.list(request)).rejects.toMatchObject({ code: 'NoSuchBucket' })
  await expect(run.put('k2', 'x')).rejects.toMatchObject({ code: 'InvalidBucketState' })
})

it('knows only what is attached', async () => {
  const run = await attached()
  const asked = run.control.detach({ bucket: 'other', force: true, waitMsMax: 0 })
  await expect(asked).rejects.toMatchObject({ code: 'NoSuchBucket' })
})
