/** When names leave, when backups are made, and which are kept: the options of the stream are acted on. */
import { expect, it } from 'vitest'
import { backupIdOf } from '../../../../src/persist/names/manifest.ts'
import { Model } from './model.ts'

const HOUR_MS = 3_600_000

async function begin(options: Model['options']): Promise<Model> {
  const model = new Model(1, options)
  await model.start()
  await after(model, 0)
  return model
}

/** What happens at once after that time. */
async function after(model: Model, ms: number): Promise<void> {
  await model.namespace.flush()
  model.clock.ms += ms
  while (await model.stream.round());
  await model.settle()
}

/** In the remote store, the oldest first. */
function kept(model: Model): string[] {
  return [...model.objects.keys()]
    .flatMap((name) => (name.startsWith('backups/') ? (backupIdOf(name) ?? []) : []))
    .sort()
}

it('changes leave once in an interval, however many there are', async () => {
  const model = await begin({ intervalMs: 7000 })
  await model.put('first', 'inline')
  await after(model, 7000)
  const through = model.stream.status().shippedThrough
  for (let put = 0; put < 5; put++) {
    await model.put(`key-${put}`, 'inline')
    await after(model, 1000)
    expect(model.stream.status()).toMatchObject({ shippedThrough: through })
  }
  await after(model, 2000)
  expect(model.stream.status()).toMatchObject({ shippedThrough: model.namespace.durableRevision() })
  await model.stop()
})

it('backups are made once in an interval, and as many are kept as are asked for, the newest', async () => {
  const model = await begin({ backupIntervalMs: HOUR_MS, backupsKept: 2 })
  await after(model, 1000)
  const [first] = kept(model)
  expect(kept(model)).toHaveLength(1)
  for (let minute = 0; minute < 58; minute++) await after(model, 60_000)
  expect(kept(model)).toEqual([first])
  await after(model, 120_000)
  const [, second] = kept(model)
  expect(kept(model)).toEqual([first, second])
  await model.put('key', 'inline')
  await after(model, HOUR_MS)
  const [, third] = kept(model)
  expect(kept(model)).toEqual([second, third])
  expect(model.stream.backups.list().map(({ id }) => id)).toEqual([second, third])
  await model.check()
  await model.stop()
})

it('an interval of 0 makes none, and those on demand are kept to the number too', async () => {
  const model = await begin({ backupIntervalMs: 0, backupsKept: 1 })
  await after(model, 1000 * HOUR_MS)
  expect(kept(model)).toEqual([])
  expect(model.stream.status().nextBackupMs).toBeUndefined()
  const { id: older } = await model.stream.backUp(model.clock.ms)
  model.clock.ms += 5000
  const { id: newer } = await model.stream.backUp(model.clock.ms)
  expect(kept(model)).toEqual([newer])
  expect(newer > older).toBe(true)
  await model.stop()
})

it('a restart does not forget when the last one was made', async () => {
  const model = await begin({ backupIntervalMs: HOUR_MS })
  await after(model, 1000)
  const made = kept(model)
  await model.crash()
  await after(model, HOUR_MS / 2)
  expect(kept(model)).toEqual(made)
  await after(model, HOUR_MS / 2)
  expect(kept(model)).toHaveLength(2)
  await model.stop()
})

it('a clock that was set back puts the next off by no more than the interval, and none that is made is dropped for it', async () => {
  const model = await begin({ backupIntervalMs: HOUR_MS, backupsKept: 2 })
  await after(model, 1000)
  await after(model, HOUR_MS)
  const ahead = kept(model)
  expect(ahead).toHaveLength(2)
  model.clock.ms -= 100 * HOUR_MS
  // The stream measures its own pauses by the same clock here.
  await model.crash()
  await after(model, HOUR_MS)
  const now = kept(model)
  expect(now).toHaveLength(2)
  expect(ahead).not.toContain(now[0])
  await after(model, HOUR_MS / 2)
  expect(kept(model)).toEqual(now)
  await model.put('key', 'inline')
  const { id } = await model.stream.backUp(model.clock.ms)
  expect(kept(model)).toContain(id)
  await model.stop()
})

it('a backup whose manifest cannot be read keeps everything until it is dropped', async () => {
  const model = await begin({})
  await after(model, 1000)
  const { id } = await model.stream.backUp(model.clock.ms)
  await model.remote.put(`backups/${id}.json`, Buffer.from('{}'))
  await model.crash()
  await after(model, 1000)
  expect(model.stream.status().unreadableBackups).toEqual([id])
  const segment = model.open
  expect(model.stream.mayRemove(segment, 0)).toBe(false)
  expect(model.stream.needsUnknown(segment)).toBe(true)
  await model.stream.dropBackup(id)
  expect(model.stream.status().unreadableBackups).toEqual([])
  expect(model.stream.mayRemove(segment, 0)).toBe(true)
  expect(model.stream.needsUnknown(segment)).toBe(false)
  await model.stop()
})

it('drops no backup that there is not, and none when the store may be somebody else’s', async () => {
  const model = await begin({})
  await after(model, 1000)
  await expect(model.stream.dropBackup('../marker')).rejects.toMatchObject({ code: 'InvalidArgument' })
  await expect(model.stream.dropBackup('20261122T063918Z-3fa9')).rejects.toMatchObject({ code: 'NoSuchKey' })
  await model.stop()
})

it('C17: deltas go on when no manifest can be written', async () => {
  const model = await begin({ backupIntervalMs: HOUR_MS })
  await after(model, 1000)
  const put = model.remote.put.bind(model.remote)
  model.remote.put = (name, ...rest) =>
    name.startsWith('backups/') ? Promise.reject(new Error('denied')) : put(name, ...rest)
  for (let hour = 0; hour < 4; hour++) {
    const revision = await model.put(`key-${hour}`, 'inline')
    await after(model, HOUR_MS).catch(() => undefined)
    await after(model, HOUR_MS).catch(() => undefined)
    expect(model.stream.status().shippedThrough).toBeGreaterThanOrEqual(revision)
  }
  expect(model.stream.status().lastError).toBe('denied')
  await model.stop()
})
