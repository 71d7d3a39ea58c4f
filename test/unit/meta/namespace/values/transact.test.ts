/* oxlint-disable unicorn/no-thenable -- a branch of a transaction is called `then`; it is a list, so nothing awaits it */
import { hash } from 'node:crypto'
import { afterEach, describe, expect, test } from 'vitest'
import type { ObjectVersion } from '../../../../../src/common/model.ts'
import type { ValueCompare } from '../../../../../src/meta/namespace/values/compares.ts'
import type { PutOperation, ValueOperation } from '../../../../../src/meta/namespace/values/operations.ts'
import type { TransactRequest, TransactResult } from '../../../../../src/meta/namespace/values/transact.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { OWNER, PLAIN, fixture, type Fixture } from '../fixture.ts'
import { STORES } from './stores.ts'

const open: Fixture[] = []

afterEach(async () => {
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

async function begun(making: Promise<Fixture>, versioning?: 'enabled' | 'suspended'): Promise<Fixture> {
  const made = await making
  open.push(made)
  await made.bucket('box', versioning)
  return made
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

function contentOf({ body }: ObjectVersion): number {
  if (body.kind !== 'content') throw new Error('a body of its own')
  return body.content
}

function put(key: string, text: string, more: Partial<PutOperation> = {}): PutOperation {
  const etag = hash('md5', text, 'hex')
  const body = { kind: 'inline', bytes: bytesOf(text) } as const
  return { op: 'put', key, body, size: text.length, etag, attributes: PLAIN, ttlMs: undefined, ...more }
}

function add(key: string, delta: number | bigint = 1, ttlMs?: number): ValueOperation {
  return { op: 'increment', key, delta: BigInt(delta), ttlMs }
}

async function transact(made: Fixture, request: Partial<TransactRequest>): Promise<TransactResult> {
  const whole = { bucket: 'box', compares: [], then: [], else: [], known: [], owner: OWNER, ack: 'journal', ...request }
  return (await made.namespace.transactValues(whole as TransactRequest)).value
}

/** Whether the compares hold. */
async function held(made: Fixture, ...compares: ValueCompare[]): Promise<boolean> {
  const result = await transact(made, { compares })
  if (result.kind === 'undecided') throw new Error('undecided')
  return result.succeeded
}

async function textOf(made: Fixture, key: string): Promise<string | undefined> {
  const version = await made.namespace.lookup('box', key).catch(() => undefined)
  return version?.body.kind === 'inline' ? Buffer.from(version.body.bytes).toString() : undefined
}

describe.each(STORES)('C1: transactions over %s, each run twice', (_name, begin) => {
  test('operations in order, each seeing what those before it wrote', async () => {
    const made = await begun(begin({ forceRetry: true }))
    await made.put('box', 'd/old', { bytes: 'old' })
    const run = await made.run(500)
    const commit = await made.namespace.transactValues({
      bucket: 'box',
      owner: OWNER,
      ack: 'journal',
      compares: [{ target: 'exists', key: 'd/new', operand: false }],
      then: [
        { op: 'get', key: 'd/new' },
        put('d/new', 'hello', { ttlMs: 5000 }),
        { op: 'get', key: 'd/new' },
        { op: 'exists', key: 'd/old' },
        { op: 'delete', key: 'd/old' },
        { op: 'exists', key: 'd/old' },
        { op: 'delete', key: 'd/none' },
        put('large', '', { body: { kind: 'run', run }, size: 500 }),
        add('n', 7),
        { op: 'get', key: 'n' },
      ],
      else: [],
      known: [],
    })
    expect(commit.value).toMatchObject({ kind: 'done', succeeded: true })
    const outcomes = commit.value.kind === 'done' ? commit.value.outcomes : []
    const fresh = { key: 'd/new', size: 5, revision: commit.revision, expiresMs: made.clock.ms + 5000 }
    expect(outcomes).toMatchObject([
      { op: 'get', version: undefined },
      { op: 'put', version: fresh },
      { op: 'get', version: fresh },
      { op: 'exists', exists: true },
      { op: 'delete', existed: true },
      { op: 'exists', exists: false },
      { op: 'delete', existed: false },
      { op: 'put', version: { body: { kind: 'content', content: run.content } } },
      { op: 'increment', value: 7n, version: { size: 1, etag: hash('md5', '7', 'hex'), owner: OWNER } },
      { op: 'get', version: { key: 'n', revision: commit.revision } },
    ])
    await commit.durable
    expect(await made.namespace.lookup('box', 'large')).toMatchObject({ size: 500, revision: commit.revision })
    made.clock.ms += 5000
    expect(await held(made, { target: 'exists', key: 'd/new', operand: false })).toBe(true)
  })

  test('a failed compare takes the other branch; a failed operation undoes all', async () => {
    const made = await begun(begin({ forceRetry: true }))
    await made.put('box', 'a', { bytes: 'x' })
    const compares: ValueCompare[] = [{ target: 'exists', key: 'a', operand: false }]
    const taken = await transact(made, { compares, then: [put('t', '1')], else: [{ op: 'get', key: 'a' }] })
    expect(taken).toMatchObject({ succeeded: false, outcomes: [{ op: 'get', version: { key: 'a' } }] })
    const before = made.namespace.revision()
    await expect(transact(made, { then: [put('d/e/f', '1'), add('a')] })).rejects.toMatchObject({
      code: 'InvalidCounter',
      details: { key: 'a' },
    })
    expect(made.namespace.revision()).toBe(before)
    expect((await made.namespace.presence('box', ['t', 'd/e/f'], false)).present).toEqual([false, false])
  })

  test('what only reads has the revision that it read at, and is durable when that is', async () => {
    const made = await begun(begin({ forceRetry: true }))
    const request = { bucket: 'box', owner: OWNER, ack: 'journal', compares: [], else: [], known: [] } as const
    const written = await made.namespace.transactValues({ ...request, then: [put('a', '1')] })
    expect(made.namespace.durableRevision()).toBeLessThan(written.revision)
    const read = await made.namespace.transactValues({ ...request, then: [{ op: 'get', key: 'a' }] })
    expect(read.revision).toBe(written.revision)
    await read.durable
    expect(made.namespace.durableRevision()).toBeGreaterThanOrEqual(read.revision)
  })

  test('100 increments at once add up', async () => {
    const made = await begun(begin({ forceRetry: true }))
    const results = await Promise.all(Array.from({ length: 100 }, () => transact(made, { then: [add('c/n')] })))
    const values = results.map((result) => {
      const [outcome] = result.kind === 'done' ? result.outcomes : []
      return outcome?.op === 'increment' ? Number(outcome.value) : Number.NaN
    })
    expect(values.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i + 1))
    expect(await textOf(made, 'c/n')).toBe('100')
  })
})

describe('compares', () => {
  test('of revision, existence and ETag; an absent key has revision 0 and equals nothing', async () => {
    const made = await begun(fixture({ forceRetry: true }))
    const { revision, etag } = await made.put('box', 'a', { bytes: 'x' })
    const of = (key: string, operator: '=' | '!=' | '<' | '>', operand: number): ValueCompare => ({
      target: 'revision',
      key,
      operator,
      operand,
    })
    expect(
      await held(made, of('a', '=', revision), of('a', '!=', 0), of('a', '<', revision + 1), of('a', '>', 0)),
    ).toBe(true)
    expect(await held(made, of('none', '=', 0), of('none', '<', 1), of('none', '!=', 5))).toBe(true)
    for (const failing of [of('a', '=', 0), of('a', '>', revision), of('a', '<', revision), of('none', '>', 0)]) {
      expect(await held(made, failing), JSON.stringify(failing)).toBe(false)
    }
    const etags = async (key: string, operator: '=' | '!=', operand: string): Promise<boolean> =>
      held(made, { target: 'etag', key, operator, operand })
    expect([await etags('a', '=', etag), await etags('a', '!=', etag)]).toEqual([true, false])
    expect([await etags('a', '=', 'other'), await etags('a', '!=', 'other')]).toEqual([false, true])
    expect([await etags('none', '=', etag), await etags('none', '!=', etag)]).toEqual([false, true])
    expect(await held(made, { target: 'exists', key: 'a', operand: true })).toBe(true)
    expect(await held(made, { target: 'exists', key: 'none', operand: true })).toBe(false)
    expect(await held(made)).toBe(true)
  })

  test('of values: inline by bytes, others by what is known, else undecided with nothing written', async () => {
    const made = await begun(fixture({ forceRetry: true }))
    await made.put('box', 'a', { bytes: 'hello' })
    const large = await made.put('box', 'large', { run: await made.run(5) })
    const of = (key: string, operator: '=' | '!=', text: string): ValueCompare => ({
      target: 'value',
      key,
      operator,
      operand: bytesOf(text),
    })
    expect(await held(made, of('a', '=', 'hello'), of('a', '!=', 'hellO'), of('a', '!=', 'hell'))).toBe(true)
    expect(await held(made, of('none', '!=', ''))).toBe(true)
    expect(await held(made, of('none', '=', ''))).toBe(false)
    expect(await held(made, of('large', '=', 'size'))).toBe(false)
    const compares = [of('a', '=', 'hello'), of('large', '=', 'world')]
    const before = made.namespace.revision()
    const undecided = await transact(made, { compares, then: [put('t', '1')], else: [put('e', '1')] })
    expect(undecided).toMatchObject({ kind: 'undecided', compare: 1, version: { inode: large.inode } })
    expect(made.namespace.revision()).toBe(before)
    // Another compare that fails decides without its bytes.
    const failed = { target: 'exists', key: 'none', operand: true } as const
    expect(await held(made, ...compares, failed)).toBe(false)
    for (const equal of [true, false]) {
      const known = [
        { content: contentOf(large), operand: bytesOf('other'), equal: !equal },
        { content: contentOf(large), operand: bytesOf('world'), equal },
      ]
      const decided = await transact(made, { compares, known, then: [put('t', '1')], else: [put('e', '1')] })
      expect(decided).toMatchObject({ kind: 'done', succeeded: equal })
    }
    // What is known of one version says nothing of the next.
    const known = [{ content: contentOf(large), operand: bytesOf('world'), equal: true }]
    const next = await made.put('box', 'large', { run: await made.run(5) })
    expect(await transact(made, { compares, known })).toMatchObject({ kind: 'undecided', compare: 1 })
    // Nor does it of what the mount has written into the same inode since.
    known.push({ content: contentOf(next), operand: bytesOf('world'), equal: true })
    expect(await transact(made, { compares, known })).toMatchObject({ kind: 'done', succeeded: true })
    const edits = [{ offset: 0, length: 5, run: await made.run(5) }]
    const { inode } = next
    const written = { inode, edits, inline: undefined, size: 5, modified: undefined, ack: 'journal' } as const
    await made.namespace.files.publishFile(written)
    expect(await transact(made, { compares, known })).toMatchObject({ kind: 'undecided', version: { inode } })
  })

  test('an expired key is absent to compares and operations', async () => {
    const made = await begun(fixture({ forceRetry: true }))
    await transact(made, { then: [put('a', '5', { ttlMs: 100 })] })
    const compares: ValueCompare[] = [{ target: 'revision', key: 'a', operator: '=', operand: 0 }]
    expect(await held(made, ...compares)).toBe(false)
    made.clock.ms += 100
    const then: ValueOperation[] = [{ op: 'get', key: 'a' }, add('a')]
    expect(await transact(made, { compares, then })).toMatchObject({
      succeeded: true,
      outcomes: [{ version: undefined }, { value: 1n, version: { expiresMs: undefined } }],
    })
    await transact(made, { then: [put('b', '5', { ttlMs: 100 })] })
    made.clock.ms += 100
    expect(await transact(made, { then: [{ op: 'delete', key: 'b' }] })).toMatchObject({
      outcomes: [{ existed: false }],
    })
  })
})

describe('what is refused', () => {
  test('a key written twice in one branch, whichever is taken; reading it again is not', async () => {
    const made = await begun(fixture())
    const twice: ValueOperation[] = [put('k', '1'), { op: 'delete', key: 'k' }]
    for (const branches of [{ then: twice }, { else: twice }, { then: [add('k'), add('k')] }]) {
      await expect(transact(made, branches)).rejects.toMatchObject({ code: 'InvalidArgument', details: { key: 'k' } })
    }
    expect(
      await transact(made, { then: [put('k', '1'), { op: 'get', key: 'k' }], else: [put('k', '2')] }),
    ).toMatchObject({
      succeeded: true,
    })
  })

  test('bad keys and buckets', async () => {
    const made = await begun(fixture())
    await expect(transact(made, { else: [{ op: 'get', key: '' }] })).rejects.toMatchObject({ code: 'InvalidKey' })
    const compares: ValueCompare[] = [{ target: 'exists', key: 'x'.repeat(1025), operand: true }]
    await expect(transact(made, { compares })).rejects.toMatchObject({ code: 'KeyTooLong' })
    await expect(transact(made, { bucket: 'none' })).rejects.toMatchObject({ code: 'NoSuchBucket' })
  })

  test('C2: with 128 operations to a transaction, what fits is done and what does not changes nothing', async () => {
    const made = await begun(fixture({ operationsMax: 128, forceRetry: true }))
    const puts = (count: number): ValueOperation[] => Array.from({ length: count }, (_, i) => put(`k${i}`, 'x'))
    // Two rows each, and the usage of the bucket.
    expect(await transact(made, { then: puts(63) })).toMatchObject({ succeeded: true })
    const before = made.namespace.revision()
    await expect(transact(made, { then: puts(64) })).rejects.toMatchObject({ code: 'TransactionTooLarge' })
    expect(made.namespace.revision()).toBe(before)
    expect((await made.namespace.presence('box', ['k62', 'k63'], false)).present).toEqual([true, false])
  })

  test('C2: more directories than ids are leased at once', async () => {
    const made = await begun(fixture())
    const deep = (name: string): ValueOperation => put(name + '/'.repeat(1000), 'x')
    const apart = Array.from({ length: 20 }, (_, i) => deep(`k${i}`))
    await expect(transact(made, { then: apart })).rejects.toMatchObject({ code: 'TransactionTooLarge' })
    const together = Array.from({ length: 20 }, (_, i) => put(`${'/'.repeat(1000)}k${i}`, 'x'))
    expect(await transact(made, { then: together })).toMatchObject({ succeeded: true })
  })
})

describe('counters', () => {
  test.each([
    ['41', 1, '42'],
    ['-1', 1, '0'],
    ['-5', -10, '-15'],
    ['007', 0, '7'],
    [String(2n ** 63n - 2n), 1, String(2n ** 63n - 1n)],
    [String(-(2n ** 63n)), 0, String(-(2n ** 63n))],
  ])('%s and %i is %s', async (before, delta, after) => {
    const made = await begun(fixture({ forceRetry: true }))
    await made.put('box', 'n', { bytes: before })
    const { outcomes } = (await transact(made, { then: [add('n', delta)] })) as { outcomes: readonly unknown[] }
    expect(outcomes).toMatchObject([{ value: BigInt(after), version: { size: after.length } }])
    expect(await textOf(made, 'n')).toBe(after)
  })

  test.each([
    '',
    ' 1',
    '1\n',
    '1.5',
    '0x10',
    '--1',
    '+',
    '+5',
    'ten',
    '1_000',
    '\u0661',
    String(2n ** 63n),
    '9'.repeat(400),
  ])('%j is none', async (text) => {
    const made = await begun(fixture())
    await made.put('box', 'n', { bytes: text })
    await expect(transact(made, { then: [add('n')] })).rejects.toMatchObject({ code: 'InvalidCounter' })
  })

  test('one that would pass its bounds is left alone, as is a body outside the inode', async () => {
    const made = await begun(fixture())
    await made.put('box', 'n', { bytes: String(2n ** 63n - 1n) })
    await expect(transact(made, { then: [add('n')] })).rejects.toMatchObject({ code: 'InvalidCounter' })
    await expect(transact(made, { then: [add('m', -(2n ** 63n) - 1n)] })).rejects.toMatchObject({
      code: 'InvalidCounter',
    })
    await made.put('box', 'far', { run: await made.run(1) })
    await expect(transact(made, { then: [add('far')] })).rejects.toMatchObject({
      code: 'InvalidCounter',
      details: { key: 'far' },
    })
  })

  test('attributes are kept; a new one is plain text', async () => {
    const made = await begun(fixture())
    const attributes = { ...PLAIN, headers: { contentType: 'x/y' }, userMetadata: { of: 'mine' }, tags: { t: '1' } }
    await transact(made, { then: [put('n', '1', { attributes }), add('m')] })
    await transact(made, { then: [add('n')] })
    expect((await made.namespace.lookup('box', 'n')).attributes).toEqual(attributes)
    expect((await made.namespace.lookup('box', 'm')).attributes).toEqual({
      ...PLAIN,
      headers: { contentType: 'text/plain; charset=utf-8' },
    })
  })

  test('the expiry stays what it was unless a new one is given', async () => {
    const made = await begun(fixture({ forceRetry: true }))
    const began = made.clock.ms
    await transact(made, { then: [add('n', 1, 1000)] })
    made.clock.ms += 400
    await transact(made, { then: [add('n')] })
    expect(await made.namespace.lookup('box', 'n')).toMatchObject({ expiresMs: began + 1000 })
    await transact(made, { then: [add('n', 1, 5000)] })
    expect(await made.namespace.lookup('box', 'n')).toMatchObject({ expiresMs: began + 5400 })
    made.clock.ms = began + 5400
    expect(await textOf(made, 'n')).toBeUndefined()
    await made.expireAll()
    expect(await textOf(made, 'n')).toBeUndefined()
  })
})

test('in a versioned bucket a delete writes a marker, and an increment keeps the older version', async () => {
  const made = await begun(fixture({ forceRetry: true }), 'enabled')
  await transact(made, { then: [add('a/n'), put('b', '1')] })
  await transact(made, { then: [add('a/n'), { op: 'delete', key: 'b' }, { op: 'delete', key: 'none/x' }] })
  const { versions } = await made.namespace.listVersions({
    bucket: 'box',
    prefix: '',
    delimiter: '',
    keyMarker: '',
    versionIdMarker: undefined,
    limit: 100,
  })
  expect(versions.map(({ key, isDeleteMarker, isLatest }) => [key, isDeleteMarker, isLatest])).toEqual([
    ['a/n', false, true],
    ['a/n', false, false],
    ['b', true, true],
    ['b', false, false],
    ['none/x', true, true],
  ])
})
