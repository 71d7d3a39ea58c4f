import { describe, expect, test } from 'vitest'
import { TidegateError } from '../../../src/common/errors.ts'
import { BUCKET_ID } from './fake-attached-names.ts'
import { carryFixture, DELAY_MS, turns } from './write-back-fixture.ts'

test('what was dirty at the start and what becomes so is carried out, after a moment in which changes fall together', async () => {
  const { names, bucket, clock, writeBack: make, outside } = carryFixture()
  names.put('before', 'the start')
  const { writeBack } = make()
  writeBack.start()
  await turns()
  for (const text of ['1', '2', '3']) names.put('often', text)
  names.put('short', 'lived')
  names.remove('short')
  await turns()
  expect(bucket.calls('put')).toBe(0)
  await clock.advance(DELAY_MS)
  await turns()
  expect([outside('before'), outside('often'), outside('short'), names.rows.size]).toEqual([
    'the start',
    '3',
    undefined,
    0,
  ])
  expect([bucket.calls('put'), bucket.calls('remove')]).toEqual([2, 0])
  await writeBack.stop()
})

test('who waits for it does not wait for the delay, and is told when it is there', async () => {
  const { names, clock, writeBack: make, outside } = carryFixture()
  const { writeBack } = make()
  writeBack.start()
  const { revision } = names.put('a', 'one')
  await writeBack.written(BUCKET_ID, 'a', revision)
  expect([outside('a'), clock.nowMs()]).toEqual(['one', 0])
  await writeBack.written(BUCKET_ID, 'a', revision)
  await writeBack.stop()
})

test('a waiter for an earlier change is told when that arrives, one for a later change when that does', async () => {
  const { names, bucket, writeBack: make, outside } = carryFixture()
  const { writeBack } = make()
  writeBack.start()
  const pause = bucket.pauseNth('put')
  const first = writeBack.written(BUCKET_ID, 'a', names.put('a', 'one').revision)
  await pause.reached
  let told = ''
  const second = writeBack
    .written(BUCKET_ID, 'a', names.put('a', 'two').revision)
    .then(() => (told = outside('a') ?? ''))
  pause.release()
  await first
  await second
  expect(told).toBe('two')
  await writeBack.stop()
})

test('a waiter is told PreconditionFailed of a conflict, and Unavailable when it takes too long, with why', async () => {
  const { names, bucket, clock, writeBack: make } = carryFixture('fail')
  const { writeBack, conflicts } = make()
  writeBack.start()
  const { revision } = names.put('a', 'ours')
  bucket.outsidePut('a', 'theirs')
  await expect(writeBack.written(BUCKET_ID, 'a', revision)).rejects.toMatchObject({ code: 'PreconditionFailed' })
  await expect(writeBack.written(BUCKET_ID, 'a', revision)).rejects.toMatchObject({ code: 'PreconditionFailed' })
  expect(conflicts).toEqual([{ key: 'a', ended: 'listed', as: undefined }])
  bucket.revoked = true
  const late = writeBack.written(BUCKET_ID, 'b', names.put('b', 'x').revision)
  late.catch(() => undefined)
  await turns()
  await clock.advance(30_000)
  await expect(late).rejects.toMatchObject({
    code: 'Unavailable',
    message: expect.stringContaining('AccessDenied') as string,
  })
  await writeBack.stop()
})

test('what is changed after it was settled, and before that is known to be durable, has another turn', async () => {
  const { names, clock, writeBack: make, outside } = carryFixture()
  const { writeBack } = make()
  writeBack.start()
  const settle = names.settle.bind(names)
  names.settle = async (request) => {
    const settled = await settle(request)
    names.settle = settle
    names.put('a', 'two')
    return settled
  }
  names.put('a', 'one')
  for (let turn = 0; turn < 3; turn++) {
    await clock.advance(DELAY_MS)
    await turns()
  }
  expect([outside('a'), names.rows.size]).toEqual(['two', 0])
  await writeBack.stop()
})

test('no more at once than it was told, never two for one key, the oldest first', async () => {
  const { names, bucket, clock, writeBack: make } = carryFixture()
  const { writeBack } = make({ concurrency: 2 })
  for (const key of ['e', 'd', 'c', 'b', 'a']) {
    names.put(key, key)
    await clock.advance(1)
  }
  let [running, most] = [0, 0]
  const begun: string[] = []
  const put = bucket.put.bind(bucket)
  bucket.put = async (key, ...rest) => {
    begun.push(key)
    most = Math.max(most, ++running)
    await turns(2)
    return await put(key, ...rest).finally(() => running--)
  }
  writeBack.start()
  await clock.advance(DELAY_MS)
  await turns(60)
  expect([begun, most, names.rows.size]).toEqual([['e', 'd', 'c', 'b', 'a'], 2, 0])
  await writeBack.stop()
})

test('many more keys than the window holds all have their turn, oldest or not', async () => {
  const { names, bucket, clock, writeBack: make } = carryFixture()
  for (let i = 0; i < 3500; i++) names.put(`k${String(i).padStart(5, '0')}`, 'x')
  const { writeBack } = make()
  writeBack.start()
  let most = 0
  for (let step = 0; step < 400 && names.rows.size > 0; step++) {
    await clock.advance(DELAY_MS)
    await turns(30)
    most = Math.max(most, writeBack.gauges()[0]?.waiting ?? 0)
    if (step === 0) for (let i = 0; i < 1500; i++) names.put(`a${i}`, 'late, and behind the position')
  }
  expect([names.rows.size, bucket.snapshot().size]).toEqual([0, 5000])
  expect(most).toBeLessThanOrEqual(1000)
  await writeBack.stop()
})

describe('failures', () => {
  test('one key that always fails holds nobody up, is tried again with pauses, and is listed with its cause', async () => {
    const { names, bucket, clock, writeBack: make } = carryFixture()
    const put = bucket.put.bind(bucket)
    bucket.put = (key, ...rest) =>
      key === 'bad' ? Promise.reject(new TidegateError('AccessDenied', 'not there')) : put(key, ...rest)
    const { writeBack, failures } = make()
    writeBack.start()
    for (const key of ['bad', 'a', 'b', 'c']) names.put(key, key)
    for (let second = 0; second < 60; second++) {
      await clock.advance(1000)
      await turns(5)
    }
    expect([...names.rows.keys()]).toEqual(['bad'])
    const [status] = await writeBack.status()
    expect(status).toMatchObject({ dirty: 1, failing: 1, conflicts: 0, awayMs: undefined })
    expect(status?.failed).toMatchObject([{ key: 'bad', cause: { code: 'AccessDenied', message: 'not there' } }])
    // Refused ones are tried seldom: after 5, 10, 20 and 40 seconds.
    expect(failures.length).toBe(4)
    bucket.put = put
    expect(await writeBack.drain({ waitMsMax: 0 })).toMatchObject({ left: 1 })
    await turns()
    expect(names.rows.size).toBe(0)
    await writeBack.stop()
  })

  test('a store that is away is probed with one key at a time, and used again at once when it is back', async () => {
    const { names, bucket, clock, writeBack: make } = carryFixture()
    bucket.down = true
    const { writeBack } = make()
    writeBack.start()
    for (let i = 0; i < 50; i++) names.put(`k${i}`, 'x')
    await clock.advance(DELAY_MS)
    await turns()
    expect(writeBack.gauges()[0]?.awayMs).toBeDefined()
    const before = bucket.operations.length
    for (let second = 0; second < 20; second++) {
      await clock.advance(1000)
      await turns(5)
    }
    expect(bucket.operations.length - before).toBeLessThan(25)
    bucket.down = false
    await clock.advance(4_000)
    await turns(200)
    expect(names.rows.size).toBe(0)
    await writeBack.stop()
  })

  test('while the store cannot be asked what it can do, nothing is written', async () => {
    const fixture = carryFixture()
    Object.defineProperty(fixture.attached, 'capabilities', { value: undefined })
    fixture.names.put('a', 'x')
    await expect(fixture.carry('a')).rejects.toMatchObject({ code: 'Unavailable' })
    expect(fixture.bucket.operations).toEqual([])
  })
})

test('renames in a chain settle by themselves, as the ones that hold others back arrive', async () => {
  const { names, bucket, clock, writeBack: make, outside } = carryFixture()
  for (const key of ['1', '2', '3']) {
    bucket.outsidePut(key, key)
    names.mirror(bucket.peek(key))
  }
  const { writeBack } = make()
  writeBack.start()
  names.rename('3', '4')
  names.rename('2', '3')
  names.rename('1', '2')
  const waiting = writeBack.written(BUCKET_ID, '1', names.revision())
  await turns(60)
  await waiting
  await clock.advance(DELAY_MS)
  await turns(60)
  expect(['1', '2', '3', '4'].map(outside)).toEqual([undefined, '1', '2', '3'])
  expect(names.rows.size).toBe(0)
  await writeBack.stop()
})

test('renames that went round in a circle get room, and leave nothing behind', async () => {
  const { names, bucket, clock, writeBack: make } = carryFixture()
  for (const key of ['1', '2', '3']) {
    bucket.outsidePut(key, `was ${key}`)
    names.mirror(bucket.peek(key))
  }
  names.rename('1', 'x')
  names.rename('2', '1')
  names.rename('3', '2')
  names.rename('x', '3')
  const { writeBack, failures } = make()
  writeBack.start()
  for (let step = 0; step < 20; step++) {
    await clock.advance(DELAY_MS)
    await turns()
  }
  const found = [...bucket.snapshot()].map(([key, bytes]) => `${key} ${bytes.toString()}`)
  expect([found, names.rows.size, failures]).toEqual([['1 was 2', '2 was 3', '3 was 1'], 0, []])
  // One of the three had to step aside, by a copy over there.
  expect([bucket.calls('copy'), bucket.calls('put')]).toEqual([4, 0])
  await writeBack.stop()
})

test('C32: a circle of which nothing is left outside ends in conflicts that are listed, not in a wait for ever', async () => {
  const { names, bucket, clock, writeBack: make } = carryFixture('fail')
  for (const key of ['1', '2']) {
    bucket.outsidePut(key, `was ${key}`)
    names.mirror(bucket.peek(key))
  }
  names.rename('1', 'x')
  names.rename('2', '1')
  names.rename('x', '2')
  bucket.outsidePut('1', 'theirs')
  bucket.outsideDelete('2')
  const { writeBack } = make()
  writeBack.start()
  for (let step = 0; step < 40; step++) {
    await clock.advance(1000)
    await turns()
  }
  const dirty = await names.dirtyKeys(BUCKET_ID, '', 10)
  expect(dirty.some(({ conflict }) => conflict !== undefined)).toBe(true)
  expect([...bucket.snapshot()].map(([key, bytes]) => `${key} ${bytes.toString()}`)).toEqual(['1 theirs'])
  await writeBack.stop()
})

test('paused, nothing is begun and waiters are told at once; drains tell what is left', async () => {
  const { names, bucket, clock, writeBack: make } = carryFixture()
  const { writeBack } = make()
  writeBack.start()
  writeBack.pause()
  const { revision } = names.put('a', 'x')
  await clock.advance(DELAY_MS)
  await turns()
  expect(bucket.operations).toEqual([])
  await expect(writeBack.written(BUCKET_ID, 'a', revision)).rejects.toMatchObject({ code: 'Unavailable' })
  expect(await writeBack.drain({ waitMsMax: 10_000 })).toMatchObject({ left: 1, paused: true })
  writeBack.resume()
  expect(await writeBack.drain({ waitMsMax: 10_000 })).toMatchObject({ left: 0, paused: false })
  await writeBack.stop()
})

test('a drain does not wait for the delay, nor for what somebody has to decide', async () => {
  const { names, bucket, clock, writeBack: make, outside } = carryFixture('fail')
  const { writeBack } = make()
  writeBack.start()
  names.put('a', 'ours')
  bucket.outsidePut('a', 'theirs')
  names.put('b', 'x')
  const drained = await writeBack.drain({ bucketId: BUCKET_ID, waitMsMax: 10_000 })
  expect([drained.left, drained.conflicts, outside('b'), clock.nowMs()]).toEqual([0, 1, 'x', 0])
  await writeBack.stop()
})

test('dropped between the upload and its settling, the next one finds its own work', async () => {
  const { names, bucket, clock, writeBack: make } = carryFixture('fail')
  const first = make()
  first.writeBack.start()
  names.beforeSettle = () => new Promise(() => undefined)
  for (let i = 0; i < 4; i++) names.put(`k${i}`, `text ${i}`)
  await clock.advance(DELAY_MS)
  await turns()
  expect([bucket.snapshot().size, names.rows.size]).toEqual([4, 4])
  // Killed: it never goes on, and nobody stops it.
  names.beforeSettle = () => Promise.resolve()
  const second = make()
  second.writeBack.start()
  await clock.advance(DELAY_MS)
  await turns(60)
  expect([names.rows.size, second.conflicts, second.failures]).toEqual([0, [], []])
  await second.writeBack.stop()
})

test('stopped, it gives up what is on its way, and refuses who waits', async () => {
  const { names, bucket, writeBack: make } = carryFixture()
  const { writeBack } = make()
  writeBack.start()
  const pause = bucket.pauseNth('put')
  const waiting = writeBack.written(BUCKET_ID, 'a', names.put('a', 'x').revision)
  waiting.catch(() => undefined)
  await pause.reached
  await writeBack.stop()
  await expect(waiting).rejects.toMatchObject({ code: 'Unavailable' })
  expect([bucket.snapshot().size, names.rows.size]).toEqual([0, 1])
})

test('a rename of a directory is written down, and its progress told', async () => {
  const { names, clock, writeBack: make } = carryFixture()
  const { writeBack } = make()
  names.pendingMoves.push({ id: 1, from: 'd/', to: 'e/', startedMs: 0, keys: 0 })
  names.put('e/a', 'x')
  expect((await writeBack.status()).length).toBe(0)
  writeBack.start()
  await turns()
  expect(names.pendingMoves).toEqual([])
  expect((await writeBack.status())[0]?.moves).toMatchObject([
    { from: 'd/', to: 'e/', keys: 1, isWrittenDown: true, carriedOut: 0 },
  ])
  await clock.advance(DELAY_MS)
  await turns()
  expect((await writeBack.status())[0]).toMatchObject({ dirty: 0, moves: [] })
  await writeBack.stop()
})
