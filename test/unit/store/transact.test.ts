import { createHash } from 'node:crypto'
import { beforeEach, expect, test } from 'vitest'
import { TidegateError } from '../../../src/common/errors.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import type { AckLevel, ObjectVersion } from '../../../src/common/model.ts'
import { Acknowledgement } from '../../../src/store/acknowledgement.ts'
import type { OpenBodies, TakenBody } from '../../../src/store/bodies.ts'
import type { Journaling, Memory, Persisting } from '../../../src/store/byte-ports.ts'
import type {
  MetadataTransactRequest,
  MetadataTransactResult,
  TransactionOperation,
  TransactionRequest,
  TransactionResult,
} from '../../../src/store/kv-types.ts'
import type { Metadata } from '../../../src/store/ports.ts'
import { Readers } from '../../../src/store/reading.ts'
import { transact } from '../../../src/store/transact.ts'
import type { BodySource } from '../../../src/store/types.ts'
import { TINY_LIMITS } from '../../sim/life.ts'

const ATTRIBUTES = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
const SEGMENT = 'a'.repeat(32) as SegmentId
const BLOCK_BYTES = TINY_LIMITS.blockBytes
const SMALL = Buffer.from('small')
const LARGE = Buffer.alloc(600, 7)

let calls: string[]
let asked: MetadataTransactRequest[]
let answers: ((request: MetadataTransactRequest) => MetadataTransactResult)[]
let durable: Promise<void>
let failJournal: string | undefined
let horizons: number[]
let leases: number
let readers: Readers
let revision: number

beforeEach(() => {
  calls = []
  asked = []
  answers = []
  durable = Promise.resolve()
  failJournal = undefined
  horizons = []
  leases = 0
  revision = 10
  const slab = Buffer.alloc(8 * BLOCK_BYTES)
  LARGE.copy(slab, 0)
  const memory = {
    aheadBytesMax: 16 * BLOCK_BYTES,
    lend: (_: SegmentId, block: number) => {
      leases++
      return Promise.resolve({ slabOffset: block * BLOCK_BYTES, length: BLOCK_BYTES, lease: 1 })
    },
    prefetch: () => undefined,
    giveBack: () => leases--,
    view: (offset: number, length: number) => slab.subarray(offset, offset + length),
  } as unknown as Memory
  const contents = {
    extents: () => Promise.resolve([{ offset: 0, length: LARGE.length, segment: SEGMENT, segmentOffset: 0 }]),
  } as unknown as Metadata
  readers = new Readers({ memory, contents, blockBytes: BLOCK_BYTES })
})

/** Records what becomes of each body, by its name. */
const bodies = {
  take: ({ bytes, digests }: Extract<BodySource, { kind: 'bytes' }>): Promise<TakenBody> => {
    let open = true
    return Promise.resolve({
      length: bytes.length,
      digests,
      bytes,
      journal: ({ key }) => {
        if (key === failJournal) return Promise.reject(new TidegateError('StorageFull', key))
        calls.push(`journal ${key}`)
        const run = { content: 1, segment: SEGMENT, segmentOffset: 0, length: bytes.length }
        const sync = (): Promise<void> => {
          calls.push(`sync ${key}`)
          return Promise.resolve()
        }
        return Promise.resolve({ run, sync, isLost: () => false, settled: () => undefined })
      },
      discard: () => {
        if (open) calls.push(`discard ${bytes.length}`)
        open = false
        return Promise.resolve()
      },
      done: () => {
        if (open) calls.push(`done ${bytes.length}`)
        open = false
      },
    })
  },
} as unknown as OpenBodies

const metadata = {
  bucket: () => Promise.resolve({ ack: 'journal' }),
  revision: () => revision,
  transactValues: (request: MetadataTransactRequest) => {
    asked.push(request)
    horizons.push(readers.horizon(Infinity))
    calls.push('commit')
    const answer = answers.shift()
    if (!answer) throw new TidegateError('TransactionTooLarge', 'no answer')
    const value = answer(request)
    revision++
    return Promise.resolve({ value, revision, durable: value.kind === 'done' ? durable : Promise.resolve() })
  },
} as unknown as Metadata

function run(fields: Partial<TransactionRequest>): Promise<TransactionResult> {
  const journal = {
    nameUnsynced: () => calls.push('name unsynced'),
    sealSoon: () => calls.push('seal'),
  } as unknown as Journaling
  const persisting: Persisting = {
    persisted: (segment) => {
      calls.push(`persisted ${segment[0]}`)
      return Promise.resolve()
    },
    named: ({ inode }) => {
      calls.push(`named ${inode}`)
      return Promise.resolve()
    },
    covered: (through) => {
      calls.push(`covered ${through}`)
      return Promise.resolve()
    },
    isLocal: () => true,
    accept: () => Promise.resolve(),
    acceptNow: () => true,
    reserve: () => Promise.resolve(),
    pacer: () => ({ pace: () => Promise.resolve() }),
  }
  const acknowledgement = new Acknowledgement({ journal, persisting, contents: metadata })
  const request = { bucket: 'b', compares: [], then: [], else: [], owner: 'o', ack: undefined, ...fields }
  return transact({ metadata, bodies, readers, acknowledgement, limits: TINY_LIMITS }, request)
}

function put(key: string, bytes: Buffer): TransactionOperation {
  const digests = { md5: createHash('md5').update(bytes).digest('hex'), checksums: {} }
  return { op: 'put', key, body: { kind: 'bytes', bytes, digests }, attributes: ATTRIBUTES, ttlMs: undefined }
}

function version(inode: number, body: ObjectVersion['body'], size: number): ObjectVersion {
  return { inode, body, size } as ObjectVersion
}

function large(inode: number, size = LARGE.length): ObjectVersion {
  return version(inode, { kind: 'content', content: 1 }, size)
}

function done(succeeded: boolean, outcomes: Extract<MetadataTransactResult, { kind: 'done' }>['outcomes'] = []) {
  return (): MetadataTransactResult => ({ kind: 'done', succeeded, outcomes })
}

test('bodies are as safe as asked before the commit; those of the branch not taken are given back', async () => {
  const [inline, journaled] = [Buffer.alloc(TINY_LIMITS.inlineBytesMax), Buffer.alloc(TINY_LIMITS.inlineBytesMax + 1)]
  answers = [done(false)]
  await run({ then: [put('a', LARGE)], else: [{ op: 'exists', key: 'x' }, put('b', inline), put('c', journaled)] })
  const before = calls.slice(0, calls.indexOf('commit'))
  expect(before.toSorted()).toEqual(['journal a', 'journal c', 'sync a', 'sync c'])
  expect(calls.slice(before.length)).toEqual(['commit', 'done 32', 'done 33', 'discard 600'])
  expect(asked[0]?.else.map((operation) => (operation.op === 'put' ? operation.body.kind : operation.op))).toEqual([
    'exists',
    'inline',
    'run',
  ])
})

test.each<[AckLevel, string[]]>([
  ['memory', ['journal a', 'name unsynced', 'commit', 'done 5', 'done 600']],
  ['journal', ['journal a', 'sync a', 'commit', 'done 5', 'done 600']],
  ['persisted', ['journal a', 'sync a', 'commit', 'done 5', 'done 600', 'seal', 'persisted a', 'named 7']],
])('C15: what happens in which order with ack %s', async (ack, expected) => {
  answers = [done(true, [{ op: 'put', version: large(7) }])]
  await run({ ack, then: [put('s', SMALL), put('a', LARGE)] })
  const at = calls.indexOf('commit')
  expect([...calls.slice(0, at).toSorted(), ...calls.slice(at)]).toEqual(expected)
})

test.each(['memory', 'journal'] as const)(
  'a transaction that only reads waits until what it read is durable, at level %s too',
  async (ack) => {
    let settle = (): void => undefined
    durable = new Promise((resolve) => (settle = resolve))
    answers = [done(true), done(true)]
    if (ack === 'memory') await run({ ack, then: [{ op: 'delete', key: 'a' }] })
    let told = false
    const waiting = run({ ack, then: [{ op: 'exists', key: 'a' }] }).then(() => (told = true))
    await new Promise((resolve) => setImmediate(resolve))
    expect(told).toBe(false)
    settle()
    await waiting
  },
)

test.each<[string, () => void, string]>([
  ['metadata refuses', () => (answers = []), 'TransactionTooLarge'],
  ['the journal refuses one', () => (failJournal = 'c'), 'StorageFull'],
  [
    'the commit is undone',
    () => {
      answers = [done(true, [{ op: 'get', version: large(1) }])]
      durable = Promise.reject(new TidegateError('Unavailable', 'power'))
    },
    'Unavailable',
  ],
])('when %s every body is given back and no reader is left open', async (_, prepare, code) => {
  prepare()
  const request = { then: [put('a', LARGE), put('s', SMALL)], else: [put('c', Buffer.alloc(40))] }
  await expect(run(request)).rejects.toMatchObject({ code })
  expect(calls.filter((call) => call.startsWith('discard')).toSorted()).toEqual([
    'discard 40',
    'discard 5',
    'discard 600',
  ])
  expect(calls).not.toContain('done 600')
  expect(readers.count).toBe(0)
})

test('C12: a reader is open before the commit, and one for each content that was got is left to the caller', async () => {
  const inline = version(2, { kind: 'inline', bytes: SMALL }, SMALL.length)
  answers = [
    done(true, [
      { op: 'get', version: large(1) },
      { op: 'get', version: undefined },
      { op: 'get', version: inline },
      { op: 'exists', exists: true },
    ]),
  ]
  const { outcomes, revision: committed } = await run({ then: ['a', 'b', 'c'].map((key) => ({ op: 'get', key })) })
  expect(horizons).toEqual([10])
  expect(committed).toBe(11)
  const opened = outcomes.map((outcome) => (outcome.op === 'get' ? outcome.reader : outcome.op))
  expect(opened).toEqual([expect.any(Number), undefined, undefined, 'exists'])
  expect([readers.count, readers.horizon(99)]).toEqual([1, 10])
  expect((await readers.read(opened[0] as number, 0, 1)).length).toBe(1)
  readers.close(opened[0] as number)
})

test.each<[string, Buffer, boolean]>([
  ['the same bytes', Buffer.from(LARGE), true],
  ['a difference in the last byte', Buffer.concat([LARGE.subarray(1), Buffer.from('x')]), false],
  ['another length', LARGE.subarray(1), false],
])('a value that metadata cannot compare is compared here: %s', async (_, operand, equal) => {
  answers = [() => ({ kind: 'undecided', compare: 1, version: large(4) }), done(equal)]
  const compares: TransactionRequest['compares'] = [
    { target: 'exists', key: 'k', operand: true },
    { target: 'value', key: 'k', operator: '=', operand },
  ]
  expect((await run({ compares })).succeeded).toBe(equal)
  expect(asked.map(({ known }) => known.length)).toEqual([1, 1])
  expect(asked[1]?.known).toEqual([{ content: 1, operand, equal }])
  expect([leases, readers.count]).toEqual([0, 0])
})

test('values that change faster than they are compared end in ConditionalRequestConflict, after a bounded time', async () => {
  answers = Array.from({ length: 100 }, (_, inode) => () => ({ kind: 'undecided', compare: 0, version: large(inode) }))
  const compares: TransactionRequest['compares'] = [{ target: 'value', key: 'k', operator: '=', operand: SMALL }]
  const request = run({ compares, then: [put('a', LARGE)] })
  await expect(request).rejects.toMatchObject({ code: 'ConditionalRequestConflict' })
  expect(asked.length).toBe(10)
  expect([calls.at(-1), readers.count]).toEqual(['discard 600', 0])
})

test('as many large values can be compared as a transaction may compare', async () => {
  const inodes = Array.from({ length: 30 }, (_, index) => index)
  answers = [
    ...inodes.map((compare) => () => ({ kind: 'undecided' as const, compare, version: large(compare) })),
    done(true),
  ]
  const compares = inodes.map((each) => ({
    target: 'value' as const,
    key: `k${each}`,
    operator: '=' as const,
    operand: LARGE,
  }))
  expect((await run({ compares })).succeeded).toBe(true)
})

test('C17: a counter is persisted once the remote store has its name', async () => {
  const increment: TransactionOperation = { op: 'increment', key: 'n', delta: 1n, ttlMs: undefined }
  answers = [done(true, [{ op: 'increment', value: 1n, version: version(9, { kind: 'inline', bytes: SMALL }, 1) }])]
  expect((await run({ ack: 'persisted', then: [increment] })).succeeded).toBe(true)
  expect(calls).toEqual(['commit', 'named 9'])
})

test('C2, C17: a transaction that also deletes is persisted once the remote store knows what is gone', async () => {
  const made = { op: 'put', version: version(9, { kind: 'inline', bytes: SMALL }, 1) } as const
  const both = { ack: 'persisted', then: [put('a', SMALL), { op: 'delete', key: 'b' }] } as const
  answers = [done(true, [made, { op: 'delete', existed: true }]), done(true, [made, { op: 'delete', existed: false }])]
  const { revision: through } = await run(both)
  expect(calls.slice(-2)).toEqual(['done 5', `covered ${through}`])
  await run(both)
  expect(calls.at(-1)).toBe('named 9')
})
