import { describe, expect, test } from 'vitest'
import { PLAIN_ATTRIBUTES } from '../../support/memory-bucket.ts'
import { carryFixture } from './write-back-fixture.ts'

const MIB = 1024 * 1024
const withType = { ...PLAIN_ATTRIBUTES, headers: { contentType: 'text/plain' }, userMetadata: { a: 'b' } }

describe('without anybody outside', () => {
  test('a new object is put on condition that nothing is there, with what describes it', async () => {
    const { names, bucket, carry } = carryFixture()
    names.put('a', 'one', { attributes: withType })
    expect(await carry('a')).toEqual({ kind: 'clean', through: 1 })
    expect(bucket.operations.map(({ method, expected }) => [method, expected])).toEqual([
      ['put', { kind: 'absent' }],
      ['head', undefined],
    ])
    expect(bucket.peek('a')).toMatchObject({ attributes: withType, size: 3 })
    expect([names.rows.size, names.shown()]).toEqual([0, { a: '@a' }])
    expect(await carry('a')).toEqual({ kind: 'clean', through: undefined })
  })

  test('an overwrite is put on condition of what was there, a removal too', async () => {
    const { names, bucket, carry, outside } = carryFixture()
    const etag = bucket.outsidePut('a', 'before')
    names.mirror(bucket.peek('a'))
    names.put('a', 'after')
    await carry('a')
    expect(bucket.operations[0]).toMatchObject({ method: 'put', expected: { kind: 'etag', etag } })
    expect(outside('a')).toBe('after')
    names.remove('a')
    expect((await carry('a')).kind).toBe('clean')
    expect(bucket.operations.at(-2)).toMatchObject({ method: 'remove', expected: { kind: 'etag' } })
    expect([outside('a'), names.rows.size, names.shown()]).toEqual([undefined, 0, {}])
  })

  test('what was deleted before it left is not sent', async () => {
    const { names, bucket, carry } = carryFixture()
    names.put('a', 'one')
    names.remove('a')
    expect((await carry('a')).kind).toBe('clean')
    expect([bucket.calls('put'), bucket.calls('remove'), names.rows.size]).toEqual([0, 0, 0])
  })

  test('a change while it is on its way is carried out next, on condition of what arrived', async () => {
    const { names, bucket, carry, outside } = carryFixture()
    names.put('a', 'one')
    const pause = bucket.pauseNth('put')
    const carrying = carry('a')
    await pause.reached
    names.put('a', 'two')
    pause.release()
    expect(await carrying).toEqual({ kind: 'changed', through: 1 })
    expect([outside('a'), names.shown()]).toEqual(['one', { a: 'two' }])
    expect((await carry('a')).kind).toBe('clean')
    expect([outside('a'), names.shown()]).toEqual(['two', { a: '@a' }])
  })

  test('a completed upload goes up in the same parts', async () => {
    const { names, bucket, contents, carry } = carryFixture()
    const bytes = Buffer.alloc(11 * MIB, 3)
    const { inode } = names.put('a', '', { size: bytes.length, etag: 'x-2', body: { kind: 'content', content: 1 } })
    contents.set(1, bytes)
    names.partSizes.set(inode, [6 * MIB, 5 * MIB])
    await carry('a')
    expect(bucket.peek('a')?.etag).toMatch(/-2$/)
    expect(bucket.peek('a')?.bytes.equals(bytes)).toBe(true)
  })

  test('C32: of a large file that was changed in the middle only that and what it takes to make parts is sent', async () => {
    const { names, bucket, contents, carry } = carryFixture()
    const before = Buffer.alloc(40 * MIB, 1)
    bucket.outsidePut('a', before)
    names.mirror(bucket.peek('a'))
    const { body } = names.entries.get('a') ?? {}
    if (body?.kind !== 'external') throw new Error('an external body')
    const segment = names.segmentOf(body.external)
    const after = Buffer.from(before)
    after.fill(2, 20 * MIB, 20 * MIB + 4096)
    contents.set(5, after)
    const { inode } = names.put('a', '', { size: after.length, etag: 'x-1', body: { kind: 'content', content: 5 } })
    const end = 20 * MIB + 4096
    names.extents.set(inode, [
      { offset: 0, length: 20 * MIB, segment, segmentOffset: 0 },
      { offset: end, length: after.length - end, segment, segmentOffset: end },
    ])
    expect((await carry('a')).kind).toBe('clean')
    expect(bucket.peek('a')?.bytes.equals(after)).toBe(true)
    expect(bucket.operations.find(({ method }) => method === 'putInParts')?.bytes).toBe(5 * MIB)
  })

  test('C32: a renamed object is copied over there, and its source goes once it has arrived', async () => {
    const { names, bucket, carry, outside } = carryFixture()
    bucket.outsidePut('a', 'bytes')
    names.mirror(bucket.peek('a'))
    names.rename('a', 'b')
    expect(await carry('a')).toEqual({ kind: 'held', by: ['b'] })
    expect((await carry('b')).kind).toBe('clean')
    expect([bucket.calls('copy'), bucket.calls('put'), outside('a'), outside('b')]).toEqual([1, 0, 'bytes', 'bytes'])
    expect((await carry('a')).kind).toBe('clean')
    expect([outside('a'), names.rows.size, names.shown()]).toEqual([undefined, 0, { b: '@b' }])
  })

  test('a chain of renames goes from its end on', async () => {
    const { names, bucket, carry, outside } = carryFixture()
    for (const key of ['log', 'log.1']) {
      bucket.outsidePut(key, key)
      names.mirror(bucket.peek(key))
    }
    names.rename('log.1', 'log.2')
    names.rename('log', 'log.1')
    names.put('log', 'new')
    expect(await carry('log')).toEqual({ kind: 'held', by: ['log.1'] })
    expect(await carry('log.1')).toEqual({ kind: 'held', by: ['log.2'] })
    for (const key of ['log.2', 'log.1', 'log']) expect((await carry(key)).kind).toBe('clean')
    expect([outside('log'), outside('log.1'), outside('log.2')]).toEqual(['new', 'log', 'log.1'])
  })

  test('a crash between settling the target and telling the source does not keep the source for ever', async () => {
    const { names, bucket, carry, outside } = carryFixture()
    bucket.outsidePut('a', 'bytes')
    names.mirror(bucket.peek('a'))
    names.rename('a', 'b')
    names.arrived = () => Promise.reject(new Error('killed'))
    await expect(carry('b')).rejects.toThrow('killed')
    expect((await carry('a')).kind).toBe('clean')
    expect([outside('a'), outside('b'), names.rows.size]).toEqual([undefined, 'bytes', 0])
  })

  test('only what describes it was changed: tags are set, the rest is a copy onto itself; what is there already costs a look', async () => {
    const { names, bucket, carry } = carryFixture()
    bucket.outsidePut('a', 'bytes')
    names.mirror(bucket.peek('a'))
    names.change('a', { ...PLAIN_ATTRIBUTES, tags: { x: 'y' } })
    await carry('a')
    expect([bucket.calls('setTags'), bucket.calls('copy'), bucket.peek('a')?.attributes.tags]).toEqual([
      1,
      0,
      { x: 'y' },
    ])
    names.change('a', { ...withType, tags: { x: 'y' } })
    await carry('a')
    expect([bucket.calls('copy'), bucket.calls('put')]).toEqual([1, 0])
    expect(bucket.peek('a')?.attributes).toEqual({ ...withType, tags: { x: 'y' } })
    names.change('a', { ...withType, tags: { x: 'y' } })
    await carry('a')
    expect([bucket.calls('copy'), bucket.calls('setTags'), names.rows.size]).toEqual([1, 1, 0])
  })

  test('nothing below a directory that is being renamed is touched before that is written down', async () => {
    const { names, bucket, carry } = carryFixture()
    bucket.outsidePut('d/a', 'bytes')
    names.mirror(bucket.peek('d/a'))
    names.remove('d/a')
    names.pendingMoves.push({ id: 1, from: 'd/', to: 'e/', startedMs: 0, keys: 0 })
    expect(await carry('d/a')).toEqual({ kind: 'again' })
    expect(bucket.calls('remove')).toBe(0)
    names.pendingMoves.pop()
    expect((await carry('d/a')).kind).toBe('clean')
  })

  test('a key that no store takes is refused before anything is sent', async () => {
    const { names, bucket, carry } = carryFixture()
    const key = 'é'.repeat(513)
    names.put(key, 'x')
    await expect(carry(key)).rejects.toMatchObject({ code: 'KeyTooLong' })
    expect(bucket.operations).toEqual([])
  })
})

describe('an answer is lost, or the process', () => {
  test('an older state of ours, whose answer was lost before the next change, is no conflict', async () => {
    const { names, bucket, carry, outside } = carryFixture()
    names.put('a', 'one')
    bucket.failNth('put', 1, 'after')
    await expect(carry('a')).rejects.toMatchObject({ code: 'Unavailable' })
    names.put('a', 'two')
    expect(await carry('a')).toMatchObject({ kind: 'clean' })
    expect([outside('a'), names.rows.size]).toEqual(['two', 0])
  })

  test('so does an upload of what is gone by now, and a removal of what is there again', async () => {
    const { names, bucket, carry, outside } = carryFixture()
    names.put('a', 'one')
    bucket.failNth('put', 1, 'after')
    await expect(carry('a')).rejects.toMatchObject({ code: 'Unavailable' })
    names.remove('a')
    expect(await carry('a')).toMatchObject({ kind: 'clean' })
    expect([outside('a'), names.rows.size]).toEqual([undefined, 0])
    bucket.outsidePut('b', 'one')
    names.mirror(bucket.peek('b'))
    names.remove('b')
    bucket.failNth('remove', 1, 'after')
    await expect(carry('b')).rejects.toMatchObject({ code: 'Unavailable' })
    names.put('b', 'two')
    expect(await carry('b')).toMatchObject({ kind: 'clean' })
    expect(outside('b')).toBe('two')
  })

  test.each(['put', 'head'] as const)(
    'after the %s: the next try finds its own object, and no conflict',
    async (method) => {
      const { names, bucket, carry, outside } = carryFixture()
      bucket.outsidePut('a', 'before')
      names.mirror(bucket.peek('a'))
      names.put('a', 'after')
      bucket.failNth(method, 1, 'after')
      await expect(carry('a')).rejects.toMatchObject({ code: 'Unavailable' })
      expect(await carry('a')).toMatchObject({ kind: 'clean' })
      expect([outside('a'), names.rows.size]).toEqual(['after', 0])
    },
  )

  test('what has an opaque ETag is compared by its bytes', async () => {
    const { names, bucket, carry } = carryFixture()
    names.put('a', 'a file of the mount', { etag: `${'0'.repeat(32)}-1` })
    bucket.failNth('put', 1, 'after')
    await expect(carry('a')).rejects.toMatchObject({ code: 'Unavailable' })
    expect((await carry('a')).kind).toBe('clean')
    expect(bucket.calls('read')).toBe(1)
  })

  test('of a removal, of a copy, of an upload in parts of which most was copied', async () => {
    const { names, bucket, contents, carry, outside } = carryFixture()
    const before = Buffer.alloc(20 * MIB, 1)
    for (const key of ['gone', 'from', 'large']) bucket.outsidePut(key, key === 'large' ? before : key)
    for (const key of ['gone', 'from', 'large']) names.mirror(bucket.peek(key))
    names.remove('gone')
    bucket.failNth('remove', 1, 'after')
    names.rename('from', 'to')
    bucket.failNth('copy', 1, 'after')
    const body = names.entries.get('large')?.body
    if (body?.kind !== 'external') throw new Error('an external body')
    const segment = names.segmentOf(body.external)
    contents.set(5, Buffer.concat([before, Buffer.from('appended')]))
    const size = before.length + 8
    const { inode } = names.put('large', '', { size, etag: 'x-9', body: { kind: 'content', content: 5 } })
    names.extents.set(inode, [{ offset: 0, length: before.length, segment, segmentOffset: 0 }])
    bucket.failNth('putInParts', 1, 'after')
    for (const key of ['gone', 'to', 'large']) {
      await expect(carry(key)).rejects.toMatchObject({ code: 'Unavailable' })
      expect([key, (await carry(key)).kind]).toEqual([key, 'clean'])
    }
    expect((await carry('from')).kind).toBe('clean')
    expect([outside('gone'), outside('from'), outside('to'), names.rows.size]).toEqual([
      undefined,
      undefined,
      'from',
      0,
    ])
    expect(bucket.peek('large')?.bytes.equals(contents.get(5) ?? Buffer.alloc(0))).toBe(true)
  })
})
