/**
 * Carrying out over the real namespace: random changes of ours and of others on few keys, faults, lost answers and crashes. Afterwards both sides are equal, and nothing that
 * was written outside and not seen here before we changed the key is gone (C32).
 */
import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import type { Attached, AttachedBuckets } from '../../../src/attach/attached.ts'
import type { ContentReader } from '../../../src/attach/carry-out-content.ts'
import { resolve } from '../../../src/attach/conflicts.ts'
import type { AttachedNames, AttachmentRecord } from '../../../src/attach/ports.ts'
import { WriteBack } from '../../../src/attach/write-back.ts'
import { isTidegateError } from '../../../src/common/errors.ts'
import type { ConflictPolicy } from '../../../src/common/external.ts'
import type { ObjectVersion } from '../../../src/common/model.ts'
import { HandClock } from '../../conformance/hand-clock.ts'
import { MemoryBucket, type ExternalMethod, type When } from '../../support/memory-bucket.ts'
import { fixture, type Fixture } from '../meta/namespace/fixture.ts'
import { DELAY_MS, turns } from './write-back-fixture.ts'

const RUNS = Number(process.env['ATTACH_RUNS'] ?? 150)
const STEPS = 30
const FIRST_SEED = Number(process.env['ATTACH_SEED'] ?? 1)
const KEYS = ['a', 'b', 'd/a', 'd/b', 'e/a'] as const

class World {
  readonly bucket: MemoryBucket
  readonly clock = new HandClock()
  readonly #here: Fixture
  readonly #record: AttachmentRecord
  readonly #random: () => number
  /** Texts written outside that nobody here had seen when it was changed here. */
  readonly unseen = new Map<string, { key: string; etag: string }>()
  writeBack: WriteBack
  #texts = 0

  private constructor(here: Fixture, record: AttachmentRecord, random: () => number) {
    this.#here = here
    this.#record = record
    this.#random = random
    this.bucket = new MemoryBucket({ clock: this.clock })
    this.writeBack = this.#begin()
  }

  static async make(conflicts: ConflictPolicy, seed: number): Promise<World> {
    const here = await fixture()
    const { value: record } = await here.namespace.attached.attach({
      bucket: 'far',
      owner: 'owner',
      region: 'us-east-1',
      ack: 'journal',
      attachment: { url: 'memory:', conflicts, ttlMs: 0, listingTtlMs: 0, compareIntervalMs: 0, attachedMs: 0 },
    })
    return new World(here, record, randomOf(seed))
  }

  get names(): AttachedNames {
    return this.#here.namespace.attached
  }

  get attached(): Attached {
    return { record: this.#record, external: this.bucket, capabilities: this.bucket.capabilities }
  }

  #begin(): WriteBack {
    const buckets: AttachedBuckets = {
      isEmpty: false,
      of: () => this.attached,
      ofId: () => this.attached,
      all: () => [this.attached],
    }
    const writeBack = new WriteBack({
      names: this.names,
      contents: this.#reader(),
      clock: this.clock,
      fillRandom: (bytes) => bytes.forEach((_, at) => (bytes[at] = Math.floor(this.#random() * 256))),
      attached: buckets,
      random: this.#random,
      concurrency: 3,
      delayMs: DELAY_MS,
      waitMsMax: 30_000,
      onFailure: () => undefined,
      onConflict: () => undefined,
    })
    writeBack.start()
    return writeBack
  }

  #reader(): ContentReader {
    const { bucket } = this
    async function* bytes({ body }: ObjectVersion, offset: number, length: number): AsyncGenerator<Uint8Array> {
      if (body.kind !== 'external') throw new Error('bodies here are inline or outside')
      const whole = Buffer.alloc(length)
      await bucket.read(body.external, offset, [whole])
      yield whole
    }
    return { open: () => ({ bytes, close: () => undefined }) }
  }

  async step(kinds: readonly Kind[]): Promise<void> {
    const { namespace } = this.#here
    const [key, other] = [this.#one(KEYS), this.#one(KEYS)]
    const text = `text ${++this.#texts}`
    switch (this.#one(kinds)) {
      case 'put':
        await this.#change([key], () => this.#here.put('far', key, { bytes: text, etag: md5(text) }))
        break
      case 'remove':
        await this.#change([key], () => this.#here.remove('far', key))
        break
      case 'rename':
        await this.#change([key, other], () => namespace.rename({ bucket: 'far', from: key, to: other, replace: true }))
        break
      case 'swap':
        for (const [from, to] of [
          [key, 't'],
          [other, key],
          ['t', other],
        ] as const) {
          await this.#change([from, to], () => namespace.rename({ bucket: 'far', from, to, replace: true }))
        }
        break
      case 'renameDirectory':
        await this.#change(KEYS, () =>
          namespace.rename({ bucket: 'far', from: 'd/', to: `${this.#one(['x', 'e/y', 'd2'])}/`, replace: false }),
        )
        break
      case 'outsidePut':
        this.#forgetUnseen(key)
        this.unseen.set(text, { key, etag: this.bucket.outsidePut(key, text) })
        break
      case 'outsideDelete':
        this.#forgetUnseen(key)
        this.bucket.outsideDelete(key)
        break
      case 'look':
        await this.look(key)
        break
      case 'list':
        await this.list()
        break
      case 'fail':
        this.bucket.failNth(this.#one(METHODS), 1 + Math.floor(this.#random() * 2), this.#one(WHENS))
        break
      case 'wait':
        await this.clock.advance(this.#one([50, DELAY_MS, 1000]))
        await turns(Math.floor(this.#random() * 12))
        break
      case 'crash':
        await this.writeBack.stop()
        this.writeBack = this.#begin()
        break
    }
  }

  /** A change of ours: what these keys are seen to hold now may go by it. */
  async #change(keys: readonly string[], change: () => Promise<unknown>): Promise<void> {
    const seen = new Set<string>()
    for (const key of await this.#below(keys)) {
      const version = await this.#here.namespace.lookup('far', key).catch(() => undefined)
      if (version) seen.add(version.etag)
    }
    try {
      await change()
    } catch (error) {
      if (!isTidegateError(error)) throw error
      return
    }
    for (const [text, { etag }] of this.unseen) if (seen.has(etag)) this.unseen.delete(text)
  }

  async #below(keys: readonly string[]): Promise<readonly string[]> {
    return keys.length > 2 ? [...(await this.shown()).keys()] : keys
  }

  #forgetUnseen(key: string): void {
    const etag = this.bucket.peek(key)?.etag
    for (const [text, at] of this.unseen) if (at.etag === etag) this.unseen.delete(text)
  }

  async look(key: string): Promise<void> {
    const askedAt = this.names.revision()
    const found = this.bucket.peek(key)
    await this.names.mergeOne({ bucketId: this.#record.bucketId, key, found, askedAt })
  }

  async list(): Promise<void> {
    const askedAt = this.names.revision()
    const objects = [...this.bucket.snapshot().keys()].flatMap((key) => this.bucket.peek(key) ?? [])
    const page = { scope: { kind: 'deep' }, prefix: '', after: '', through: undefined, objects, prefixes: [] } as const
    await this.names.merge({ bucketId: this.#record.bucketId, ...page, askedAt, askedAtMs: this.clock.nowMs() })
  }

  async settle(): Promise<void> {
    for (let round = 0; round < 60; round++) {
      await this.clock.advance(5_000)
      await turns(8)
      const dirty = await this.names.dirtyKeys(this.#record.bucketId, '', 100)
      const moves = await this.names.moves(this.#record.bucketId)
      if (moves.length === 0 && dirty.every(({ conflict }) => conflict)) break
    }
  }

  async decide(): Promise<number> {
    const dirty = await this.names.dirtyKeys(this.#record.bucketId, '', 100)
    const conflicts = dirty.filter(({ conflict }) => conflict)
    const parts = { names: this.names, clock: this.clock, fillRandom: (bytes: Uint8Array) => bytes.fill(this.#texts++) }
    for (const { key } of conflicts) {
      const decide = (): Promise<unknown> => resolve(parts, this.attached, { key, keep: 'theirs' })
      // Faults that were not met yet.
      await decide().catch(decide).catch(decide)
    }
    return conflicts.length
  }

  async shown(): Promise<Map<string, string>> {
    const { namespace } = this.#here
    const page = await namespace.list({ bucket: 'far', prefix: '', delimiter: '', after: '', limit: 1000 })
    return new Map(page.objects.map(({ key, etag }) => [key, etag]))
  }

  outside(): Map<string, string> {
    const keys = [...this.bucket.snapshot().keys()]
    return new Map(keys.map((key) => [key, this.bucket.peek(key)?.etag ?? '']))
  }

  async stop(): Promise<void> {
    await this.writeBack.stop()
    await this.#here.stop()
  }

  #one<T>(of: readonly T[]): T {
    return of[Math.floor(this.#random() * of.length)] as T
  }
}

const METHODS: readonly ExternalMethod[] = ['put', 'head', 'copy', 'remove']
const WHENS: readonly When[] = ['before', 'after']
const SHARES = [
  ['put', 5],
  ['remove', 3],
  ['rename', 4],
  ['swap', 2],
  ['renameDirectory', 1],
  ['outsidePut', 4],
  ['outsideDelete', 2],
  ['look', 4],
  ['list', 1],
  ['fail', 1],
  ['wait', 8],
  ['crash', 1],
] as const
type Kind = (typeof SHARES)[number][0]
const KINDS = SHARES.flatMap(([kind, share]) => Array.from({ length: share }, () => kind))
const KINDS_ALONE = KINDS.filter((kind) => !kind.startsWith('outside'))

test.each(['fail', 'keep-both', 'last-writer-wins'] as const)('C32: %s', async (conflicts) => {
  let decided = 0
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
    const world = await World.make(conflicts, seed)
    for (let step = 0; step < STEPS; step++) await world.step(KINDS)
    await world.settle()
    // One that is decided may have held others back, which then find theirs.
    for (let found = await world.decide(); found > 0; found = await world.decide()) {
      decided += found
      world.writeBack.look(world.attached.record.bucketId)
      await world.settle()
    }
    await world.list()
    const dirty = await world.names.dirtyKeys(world.attached.record.bucketId, '', 100)
    expect({ seed, dirty }).toEqual({ seed, dirty: [] })
    expect({ seed, shown: await world.shown() }).toEqual({ seed, shown: world.outside() })
    if (conflicts !== 'last-writer-wins') {
      const texts = new Set([...world.bucket.snapshot().values()].map(String))
      const lost = [...world.unseen].filter(([text]) => !texts.has(text))
      expect({ seed, lost }).toEqual({ seed, lost: [] })
      expect(world.bucket.operations.filter(({ expected }) => expected?.kind === 'anything')).toEqual([])
    }
    await world.stop()
  }
  // Or the test has tried nothing.
  if (conflicts === 'fail') expect(decided).toBeGreaterThan(0)
})

test('C32: alone, what is here is there in the end, and nothing of ours is ever a conflict', async () => {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
    const world = await World.make('fail', seed)
    for (const key of KEYS) world.bucket.outsidePut(key, `at ${key}`)
    await world.list()
    for (let step = 0; step < STEPS; step++) await world.step(KINDS_ALONE)
    const shown = await world.shown()
    await world.settle()
    expect({ seed, outside: world.outside() }).toEqual({ seed, outside: shown })
    const dirty = await world.names.dirtyKeys(world.attached.record.bucketId, '', 100)
    expect({ seed, dirty, shown: await world.shown() }).toEqual({ seed, dirty: [], shown })
    await world.stop()
  }
})

function randomOf(seed: number): () => number {
  let state = seed * 2654435761
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex')
}
