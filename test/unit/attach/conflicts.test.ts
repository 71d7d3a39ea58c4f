import { describe, expect, test } from 'vitest'
import { conflictKey, listConflicts, resolve } from '../../../src/attach/conflicts.ts'
import { CONFLICT_POLICIES, type ConflictPolicy } from '../../../src/common/external.ts'
import { PLAIN_ATTRIBUTES } from '../../support/memory-bucket.ts'
import { BUCKET_ID } from './fake-attached-names.ts'
import { carryFixture, type CarryFixture } from './write-back-fixture.ts'

/** Mirrored, then changed on both sides as told. */
function changed(policy: ConflictPolicy, ours: string | undefined, theirs: string | undefined): CarryFixture {
  const fixture = carryFixture(policy)
  const { names, bucket } = fixture
  bucket.outsidePut('a', 'base')
  names.mirror(bucket.peek('a'))
  if (ours === undefined) names.remove('a')
  else names.put('a', ours)
  if (theirs === undefined) bucket.outsideDelete('a')
  else bucket.outsidePut('a', theirs)
  return fixture
}

const AS = 'a.conflict-19700101T000000Z-01010101'

describe('C32: by policy', () => {
  test('fail: ours stays here and is listed, theirs stays there', async () => {
    for (const theirs of ['theirs', undefined]) {
      const { names, carry, outside, attached } = changed('fail', 'ours', theirs)
      expect(await carry('a')).toEqual({ kind: 'conflict', ended: 'listed' })
      expect([outside('a'), names.shown()]).toEqual([theirs, { a: 'ours' }])
      const list = await listConflicts(attachedNames(names), { bucketId: BUCKET_ID, after: '', limit: 10 })
      expect(list.conflicts.map(({ key, outside: seen }) => [key, seen.kind])).toEqual([
        ['a', theirs ? 'etag' : 'absent'],
      ])
      expect(await carry('a')).toEqual({ kind: 'undecided' })
      expect([outside('a'), attached.record.conflicts]).toEqual([theirs, 'fail'])
    }
  })

  test('keep-both: theirs has the key, ours another one; ours again where theirs is gone', async () => {
    const written = changed('keep-both', 'ours', 'theirs')
    expect(await written.carry('a')).toEqual({ kind: 'conflict', ended: 'set-aside', as: AS })
    expect((await written.carry(AS)).kind).toBe('clean')
    expect([written.outside('a'), written.outside(AS), written.names.rows.size]).toEqual(['theirs', 'ours', 0])
    expect(written.names.shown()).toEqual({ a: '@a', [AS]: `@${AS}` })
    const gone = changed('keep-both', 'ours', undefined)
    expect((await gone.carry('a')).kind).toBe('clean')
    expect([gone.outside('a'), gone.bucket.operations.at(-2)?.expected]).toEqual(['ours', { kind: 'absent' }])
  })

  test('last-writer-wins: ours, over exactly what was seen', async () => {
    for (const theirs of ['theirs', undefined]) {
      const { bucket, carry, outside } = changed('last-writer-wins', 'ours', theirs)
      const seen = bucket.peek('a')?.etag
      expect((await carry('a')).kind).toBe('clean')
      const expected = seen === undefined ? { kind: 'absent' } : { kind: 'etag', etag: seen }
      expect([outside('a'), bucket.operations.filter(({ method }) => method === 'put').at(-1)?.expected]).toEqual([
        'ours',
        expected,
      ])
    }
  })

  test('deleted here and written there: theirs comes back, but where the last writer wins', async () => {
    for (const policy of CONFLICT_POLICIES) {
      const { names, carry, outside } = changed(policy, undefined, 'theirs')
      const outcome = await carry('a')
      const isDeleted = policy === 'last-writer-wins'
      expect(outcome.kind).toBe(isDeleted ? 'clean' : 'conflict')
      expect([outside('a'), names.shown()]).toEqual(isDeleted ? [undefined, {}] : ['theirs', { a: '@a' }])
    }
  })

  test('the same change on both sides is none', async () => {
    for (const policy of CONFLICT_POLICIES) {
      const same = changed(policy, 'same', 'same')
      expect((await same.carry('a')).kind).toBe('clean')
      const gone = changed(policy, undefined, undefined)
      expect((await gone.carry('a')).kind).toBe('clean')
      expect([same.names.rows.size, gone.names.rows.size, gone.names.shown()]).toEqual([0, 0, {}])
    }
  })

  test('the same bytes described otherwise are another change', async () => {
    const { names, bucket, carry } = changed('fail', 'same', 'other')
    names.put('a', 'same', { attributes: { ...PLAIN_ATTRIBUTES, userMetadata: { who: 'us' } } })
    bucket.outsidePut('a', 'same', { userMetadata: { who: 'them' } })
    expect(await carry('a')).toEqual({ kind: 'conflict', ended: 'listed' })
  })
})

describe('C32: outside, at any moment', () => {
  test.each(CONFLICT_POLICIES)(
    '%s: a third change, between the look and the next try, is seen as well',
    async (policy) => {
      const { bucket, carry, outside, names } = changed(policy, 'ours', 'theirs')
      const pause = bucket.pauseNth('head', 1, 'after')
      const carrying = carry('a')
      await pause.reached
      bucket.outsidePut('a', 'third')
      pause.release()
      const outcome = await carrying
      if (policy === 'last-writer-wins') expect([outcome.kind, outside('a')]).toEqual(['clean', 'ours'])
      else expect([outcome.kind, outside('a')]).toEqual(['conflict', 'third'])
      const expectations = bucket.operations.map(({ expected }) => expected?.kind)
      expect(expectations).not.toContain('anything')
      expect(names.shown()['a']).toBe(policy === 'fail' ? 'ours' : '@a')
    },
  )

  test('after our write and before the look at it: theirs came last, and nothing is a conflict', async () => {
    const { names, bucket, carry, outside } = carryFixture('fail')
    names.put('a', 'ours')
    const pause = bucket.pauseNth('head')
    const carrying = carry('a')
    await pause.reached
    bucket.outsidePut('a', 'theirs')
    pause.release()
    expect((await carrying).kind).toBe('clean')
    expect([outside('a'), names.shown(), names.entries.get('a')?.etag]).toEqual([
      'theirs',
      { a: '@a' },
      bucket.peek('a')?.etag,
    ])
  })

  test('somebody who writes all the time loses only where the last writer wins', async () => {
    const { bucket, carry, outside } = changed('last-writer-wins', 'ours', 'theirs')
    let count = 0
    bucket.latencyMs = () => {
      const writes = bucket.calls('put')
      if (writes <= 5) bucket.outsidePut('a', `theirs ${count++}`)
      return 0
    }
    expect((await carry('a')).kind).toBe('clean')
    expect([outside('a'), bucket.operations.filter(({ method }) => method === 'put').at(-1)?.expected]).toEqual([
      'ours',
      { kind: 'anything' },
    ])
  })

  test('the source of a rename was written: theirs stays there, what was renamed is listed, unless its bytes can be had', async () => {
    for (const policy of CONFLICT_POLICIES) {
      const { names, bucket, carry, outside } = carryFixture(policy)
      bucket.outsidePut('a', 'base')
      names.mirror(bucket.peek('a'))
      names.rename('a', 'b')
      bucket.outsidePut('a', 'theirs')
      expect(await carry('b')).toEqual({ kind: 'conflict', ended: 'listed' })
      expect([outside('a'), outside('b')]).toEqual(['theirs', undefined])
      // Its row still waits for what will not come; it goes when somebody decides.
      expect(await carry('a')).toEqual({ kind: 'held', by: ['b'] })
    }
    const { names, bucket, carry, outside, parts } = carryFixture('fail')
    bucket.outsidePut('a', 'base')
    names.mirror(bucket.peek('a'))
    names.rename('a', 'b')
    bucket.outsidePut('a', 'theirs')
    const cached = {
      bytes: () =>
        (async function* () {
          yield await Promise.resolve(Buffer.from('base'))
        })(),
      close: () => undefined,
    }
    Object.assign(parts, { contents: { open: () => cached } })
    expect((await carry('b')).kind).toBe('clean')
    expect(await carry('a')).toEqual({ kind: 'conflict', ended: 'gave-way' })
    expect([outside('a'), outside('b'), names.shown()]).toEqual(['theirs', 'base', { a: '@a', b: '@b' }])
  })

  test('the target of a rename was written', async () => {
    const { names, bucket, carry, outside } = carryFixture('keep-both')
    bucket.outsidePut('a', 'base')
    names.mirror(bucket.peek('a'))
    names.rename('a', 'b')
    bucket.outsidePut('b', 'theirs')
    const outcome = await carry('b')
    expect(outcome).toMatchObject({ kind: 'conflict', ended: 'set-aside' })
    const as = outcome.kind === 'conflict' ? (outcome.as ?? '') : ''
    expect((await carry(as)).kind).toBe('clean')
    expect((await carry('a')).kind).toBe('clean')
    expect([outside('a'), outside('b'), outside(as), names.rows.size]).toEqual([undefined, 'theirs', 'base', 0])
  })
})

describe('stores that cannot decide conditions', () => {
  test('without any, the last writer wins, and no condition is sent', async () => {
    const { names, bucket, carry, outside } = carryFixture('last-writer-wins')
    for (const name of Object.keys(bucket.capabilities)) Object.assign(bucket.capabilities, { [name]: false })
    bucket.outsidePut('a', 'base')
    names.mirror(bucket.peek('a'))
    names.put('a', 'ours')
    bucket.outsidePut('a', 'theirs')
    expect((await carry('a')).kind).toBe('clean')
    expect(outside('a')).toBe('ours')
    names.rename('a', 'b')
    for (const key of ['b', 'a']) expect((await carry(key)).kind).toBe('clean')
    expect([outside('a'), outside('b')]).toEqual([undefined, 'ours'])
  })

  test('C32: one that has lost them since it was attached is sent nothing, unless the last writer wins', async () => {
    for (const capability of ['conditionalPut', 'conditionalDelete'] as const) {
      const { names, bucket, carry, outside } = carryFixture('keep-both')
      bucket.outsidePut('a', 'base')
      names.mirror(bucket.peek('a'))
      names.remove('a')
      bucket.outsidePut('a', 'theirs')
      Object.assign(bucket.capabilities, { [capability]: false })
      await expect(carry('a')).rejects.toMatchObject({ code: 'NotImplemented' })
      expect([outside('a'), bucket.operations.length]).toEqual(['theirs', 0])
    }
  })

  test('a copy is made by an upload that takes one, or by its bytes', async () => {
    for (const conditionalComplete of [true, false]) {
      const { names, bucket, carry, outside } = carryFixture('fail')
      Object.assign(bucket.capabilities, { conditionalCopy: false, conditionalComplete })
      bucket.outsidePut('a', 'base', { headers: { contentType: 'text/x' } })
      names.mirror(bucket.peek('a'))
      names.rename('a', 'b')
      expect((await carry('b')).kind).toBe('clean')
      expect([outside('b'), bucket.peek('b')?.attributes.headers]).toEqual(['base', { contentType: 'text/x' }])
      expect([bucket.calls('putInParts'), bucket.calls('put')]).toEqual(conditionalComplete ? [1, 0] : [0, 1])
    }
  })
})

describe('decided by somebody', () => {
  test.each(['ours', 'theirs', 'both'] as const)('%s', async (keep) => {
    const { names, carry, outside, attached, parts } = changed('fail', 'ours', 'theirs')
    await carry('a')
    const resolution = await resolve(parts, attached, { key: 'a', keep })
    for (const key of names.rows.keys()) expect((await carry(key)).kind).toBe('clean')
    expect([names.rows.size, outside('a')]).toEqual([0, keep === 'ours' ? 'ours' : 'theirs'])
    expect(resolution.as && outside(resolution.as)).toBe(keep === 'both' ? 'ours' : undefined)
    await expect(resolve(parts, attached, { key: 'a', keep })).rejects.toMatchObject({ code: 'NoSuchKey' })
  })

  test('ours is decided against what was listed: what came after that is a conflict again', async () => {
    const { bucket, carry, outside, attached, parts } = changed('fail', 'ours', 'theirs')
    await carry('a')
    bucket.outsidePut('a', 'third')
    await resolve(parts, attached, { key: 'a', keep: 'ours' })
    expect(await carry('a')).toEqual({ kind: 'conflict', ended: 'listed' })
    expect(outside('a')).toBe('third')
  })

  test('both, where theirs is gone, is ours', async () => {
    const { carry, outside, attached, parts } = changed('fail', 'ours', undefined)
    await carry('a')
    expect(await resolve(parts, attached, { key: 'a', keep: 'both' })).toEqual({ keep: 'ours', as: undefined })
    await carry('a')
    expect(outside('a')).toBe('ours')
  })
})

test('the name of a set-aside copy is a key that S3 takes, cut between characters', () => {
  const ones = (bytes: Uint8Array): unknown => bytes.fill(0xab)
  expect(conflictKey('d/a', 1_700_000_000_123, ones)).toBe('d/a.conflict-20231114T221320Z-abababab')
  const long = conflictKey('é'.repeat(512), 1_700_000_000_123, ones)
  expect(Buffer.byteLength(long)).toBeLessThanOrEqual(1024)
  expect(long).toMatch(/^é+\.conflict-20231114T221320Z-abababab$/)
})

function attachedNames(names: unknown): Parameters<typeof listConflicts>[0] {
  return names as Parameters<typeof listConflicts>[0]
}
