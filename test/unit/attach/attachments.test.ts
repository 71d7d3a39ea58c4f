import { afterEach, expect, it } from 'vitest'
import type { AttachmentRequest } from '../../../src/attach/attachments.ts'
import { begin, REQUEST, world, type Run } from './control-fixture.ts'
import { turns } from './write-back-fixture.ts'

const runs: Run[] = []
afterEach(async () => {
  for (const run of runs.splice(0)) await run.stop()
})

async function started(...args: Partial<Parameters<typeof begin>>): Promise<Run> {
  const [w = await world(), options] = args
  const run = await begin(w, options)
  runs.push(run)
  return run
}

const attach = (run: Run, changes: Partial<AttachmentRequest> = {}): ReturnType<Run['control']['attach']> =>
  run.control.attach({ ...REQUEST, ...changes })

it('attaches a bucket whose objects show at once, and knows it after a restart', async () => {
  const run = await started()
  run.outside.set(REQUEST.url, run.external)
  run.external.outsidePut('a/b', 'text')
  expect(run.attachments.isEmpty).toBe(true)
  const view = await attach(run)
  expect(view).toMatchObject({ record: { bucket: 'far', conflicts: 'fail' }, problem: undefined })
  const listed = await run.metadata.list({ bucket: 'far', prefix: '', after: '', delimiter: '', limit: 10 })
  expect(listed.objects.map(({ key }) => key)).toEqual(['a/b'])
  await run.stop()
  const next = await started(run)
  expect(next.attachments.of('far')?.record).toMatchObject({ url: REQUEST.url, ttlMs: 10_000 })
})

it('asks the stores after a start in the background, again and again until they answer', async () => {
  const first = await started()
  await attach(first)
  await first.stop()
  first.external.down = true
  const run = await started(first)
  await turns()
  expect(run.attachments.of('far')).toMatchObject({ capabilities: undefined, problem: expect.stringContaining('down') })
  expect(run.failures).toHaveLength(1)
  run.external.down = false
  await run.clock.advance(1000)
  await turns()
  expect(run.attachments.of('far')).toMatchObject({ capabilities: { conditionalPut: true }, problem: undefined })
})

it('carries out what was dirty once the store has answered after a start', async () => {
  const first = await started()
  await attach(first)
  await first.stop()
  await first.put('k', 'ours')
  first.external.down = true
  const run = await started(first)
  await turns()
  run.external.down = false
  for (let step = 0; step < 40; step++) await run.clock.advance(250)
  expect(run.read('k')).toBe('ours')
})

it.each([
  ['conditionalPut', 'has no conditional PUT,'],
  ['conditionalDelete', 'has no conditional DELETE,'],
] as const)('refuses in words what a store without %s cannot keep (C32)', async (capability, words) => {
  const run = await started()
  run.external.capabilities[capability] = false
  for (const conflicts of ['fail', 'keep-both'] as const) {
    await expect(attach(run, { conflicts })).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: expect.stringMatching(new RegExp(`${words}.*Only last-writer-wins`, 's')),
    })
  }
  expect(await run.names.attachments()).toEqual([])
  await attach(run, { conflicts: 'last-writer-wins' })
  await expect(run.control.change('far', { conflicts: 'fail' })).rejects.toMatchObject({ code: 'InvalidArgument' })
  expect(run.attachments.of('far')?.record.conflicts).toBe('last-writer-wins')
})

it.each([
  ['revoked', 'InvalidRequest', "refuses the gateway's credentials"],
  ['down', 'Unavailable', 'does not answer'],
] as const)('says what is wrong with a store that is %s, and makes no bucket', async (fault, code, words) => {
  const run = await started()
  run.external[fault] = true
  await expect(attach(run)).rejects.toMatchObject({ code, message: expect.stringContaining(words) })
  run.external[fault] = false
  run.external.failNth('probe', 1, 'before', 'NoSuchBucket')
  await expect(attach(run)).rejects.toMatchObject({
    code: 'InvalidArgument',
    message: expect.stringContaining('no such bucket'),
  })
  await expect(run.here.namespace.bucket('far')).rejects.toMatchObject({ code: 'NoSuchBucket' })
  await attach(run)
})

it.each([
  ['s3://there/photos', 'bucket "far"'],
  ['s3://there', 'bucket "far"'],
  ['s3://there/photos/2026', 'bucket "far"'],
  ['s3://there/photos?endpoint=https://s3.eu-west-1.amazonaws.com', 'bucket "far"'],
  ['s3://segments/gateway/x', '--remote'],
])('refuses %s, which overlaps where %s is', async (url, name) => {
  const reserved = [{ name: '--remote', place: { bucket: 'segments', prefix: 'gateway' } }]
  const run = await started(undefined, { reserved })
  await attach(run)
  await expect(attach(run, { bucket: 'other', url })).rejects.toMatchObject({
    code: 'InvalidArgument',
    message: expect.stringContaining(name),
  })
})

it.each(['s3://there/photos2', 's3://elsewhere/photos', 's3://there/photos?endpoint=http://127.0.0.1:9000'])(
  'takes %s beside it',
  async (url) => {
    const run = await started()
    await attach(run)
    await attach(run, { bucket: 'other', url })
    expect((await run.control.list()).map(({ record }) => record.bucket)).toEqual(['far', 'other'])
  },
)

it('refuses a second one for the same place while the first is being tried', async () => {
  const run = await started()
  const pause = run.external.pauseNth('probe')
  const first = attach(run)
  await pause.reached
  await expect(attach(run, { bucket: 'other' })).rejects.toMatchObject({ code: 'InvalidArgument' })
  pause.release()
  await first
})

it('refuses a name that is taken', async () => {
  const run = await started()
  await run.here.bucket('far')
  await expect(attach(run)).rejects.toMatchObject({ code: 'BucketAlreadyOwnedByYou' })
  expect(run.attachments.isEmpty).toBe(true)
})

it('changes policy and times, also for the next process', async () => {
  const run = await started()
  await attach(run)
  const view = await run.control.change('far', { conflicts: 'keep-both', ttlMs: 5 })
  expect(view.record).toMatchObject({ conflicts: 'keep-both', ttlMs: 5, listingTtlMs: 60_000 })
  await run.stop()
  expect((await started(run)).attachments.of('far')?.record).toMatchObject({ conflicts: 'keep-both', ttlMs: 5 })
  await expect(run.control.change('nowhere', { ttlMs: 1 })).rejects.toMatchObject({ code: 'NoSuchBucket' })
})
