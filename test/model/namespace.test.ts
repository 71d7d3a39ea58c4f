import { describe, expect, test } from 'vitest'
import { isTidegateError } from '../../src/common/errors.ts'
import type { ObjectVersion } from '../../src/common/model.ts'
import type { MemoryStoreOptions } from '../../src/meta/memory/memory-store.ts'
import { OWNER, PLAIN, fixture, type Fixture } from '../unit/meta/namespace/fixture.ts'
import { BucketModel } from './bucket-model.ts'
import { checkNamespace } from './check-namespace.ts'
import { Random, randomKey, testSeed } from './random.ts'

const SEED = testSeed()
/** On a busy machine. */
const LONG_RUN_MS = 300_000
const TTL_MS_MAX = 2000

/** What a body is made of: ranges of the one segment, or so many inline bytes. */
type Body = { readonly inline: number } | { readonly ranges: readonly (readonly [number, number])[] }

interface ModelUpload {
  readonly bucket: string
  readonly key: string
  readonly uploadId: string
  readonly parts: Map<number, { etag: string; body: Body }>
}

class Run {
  readonly random: Random
  readonly made: Fixture
  readonly models: ReadonlyMap<string, BucketModel>
  /** By bucket, key and version id. */
  readonly bodies = new Map<string, Body>()
  readonly keys: string[] = []
  readonly uploads: ModelUpload[] = []
  #etags = 0

  constructor(random: Random, made: Fixture, models: ReadonlyMap<string, BucketModel>) {
    this.random = random
    this.made = made
    this.models = models
    for (let i = 0; i < 25; i++) this.keys.push(randomKey(random))
  }

  model(bucket: string): BucketModel {
    const model = this.models.get(bucket)
    if (!model) throw new Error(`no model of ${bucket}`)
    return model
  }

  etag(): string {
    return (++this.#etags).toString(16).padStart(32, '0')
  }

  bucket(): string {
    return this.random.pick([...this.models.keys()])
  }

  recorded(version: ObjectVersion, body: Body, ttlMs?: number): void {
    const { bucket, key, versionId, size, inode, expiresMs } = version
    expect(expiresMs).toBe(ttlMs === undefined ? undefined : this.made.clock.ms + ttlMs)
    this.model(bucket).add(key, { id: versionId ?? 'null', marker: false, size, inode, expiresMs })
    this.bodies.set(JSON.stringify([bucket, key, versionId ?? 'null']), body)
  }

  bodyOf(bucket: string, key: string, id: string): Body {
    const body = this.bodies.get(JSON.stringify([bucket, key, id]))
    if (!body) throw new Error('a version has a body')
    return body
  }

  async put(): Promise<void> {
    const bucket = this.bucket()
    const key = this.random.pick(this.keys)
    const ttlMs = this.random.chance(0.3) ? 1 + this.random.below(TTL_MS_MAX) : undefined
    const ttl = ttlMs === undefined ? {} : { ttlMs }
    if (this.random.chance(0.5)) {
      const bytes = 'x'.repeat(this.random.below(50))
      this.recorded(await this.made.put(bucket, key, { bytes, ...ttl }), { inline: bytes.length }, ttlMs)
      return
    }
    const run = await this.made.run(1 + this.random.below(100))
    const ranges = [[run.segmentOffset, run.length]] as const
    this.recorded(await this.made.put(bucket, key, { run, ...ttl }), { ranges }, ttlMs)
  }

  /** Puts only if the key names nothing. */
  async create(): Promise<void> {
    const bucket = this.bucket()
    const key = this.random.pick(this.keys)
    const call = this.made.put(bucket, key, { conditions: { ifNoneMatch: ['*'] } })
    if (this.model(bucket).current(key)) await expect(call).rejects.toMatchObject({ code: 'PreconditionFailed' })
    else this.recorded(await call, { inline: 0 })
  }

  passTime(): Promise<void> {
    this.made.clock.ms += this.random.below(TTL_MS_MAX)
    return Promise.resolve()
  }

  /** One step removes the first that are due, by time and then by age. */
  async expire(): Promise<void> {
    const due = [...this.models].flatMap(([bucket, model]) => model.expired().map((found) => ({ bucket, ...found })))
    const time = (found: (typeof due)[number]): number => found.version.expiresMs ?? 0
    const age = (found: (typeof due)[number]): number => found.version.inode ?? 0
    due.sort((a, b) => time(a) - time(b) || age(a) - age(b))
    const { expired } = (await this.made.namespace.expire()).value
    expect(expired === 0).toBe(due.length === 0)
    expect(expired).toBeLessThanOrEqual(due.length)
    for (const { bucket, key } of due.slice(0, expired)) {
      const model = this.model(bucket)
      if (model.versioning === 'off') {
        model.drop(key, 'null')
        continue
      }
      const error: unknown = await this.made.namespace.lookup(bucket, key).catch((thrown: unknown) => thrown)
      if (!isTidegateError(error, 'NoSuchKey')) throw new Error(`${key} has expired`)
      expect(error.details['deleteMarker']).toBe(true)
      model.add(key, { id: String(error.details['versionId']), marker: true, size: 0 })
    }
  }

  async remove(): Promise<void> {
    const bucket = this.bucket()
    const model = this.model(bucket)
    const key = this.random.pick(this.keys)
    const versions = model.versions(key)
    if (versions.length > 0 && this.random.chance(0.6)) {
      const version = this.random.pick(versions)
      const { id, marker } = version
      const existed = model.isKept(version)
      const { value } = await this.made.remove(bucket, key, id)
      expect(value).toEqual({ versionId: id, deleteMarker: marker, existed })
      model.drop(key, id)
      return
    }
    const existed = model.current(key) !== undefined
    const { value } = await this.made.remove(bucket, key)
    expect(value.existed).toBe(existed)
    if (model.versioning === 'off') model.drop(key, 'null')
    else model.add(key, { id: value.versionId ?? '', marker: true, size: 0 })
  }

  /** Some live version of some key, if there is one. */
  source(): { bucket: string; key: string; versionId: string | undefined; body: Body; size: number } | undefined {
    const bucket = this.bucket()
    const key = this.random.pick(this.keys)
    const live = this.model(bucket)
      .versions(key)
      .filter((version) => !version.marker && this.model(bucket).isKept(version))
    if (live.length === 0) return undefined
    const version = this.random.pick(live)
    const current = this.model(bucket).current(key) === version && this.random.chance(0.5)
    const { id, size } = version
    return { bucket, key, versionId: current ? undefined : id, body: this.bodyOf(bucket, key, id), size }
  }

  async copy(): Promise<void> {
    const source = this.source()
    if (!source) return
    const { value } = await this.made.namespace.copy({
      source,
      sourceConditions: {},
      bucket: this.bucket(),
      key: this.random.pick(this.keys),
      attributes: this.random.chance(0.5) ? undefined : PLAIN,
      tags: undefined,
      owner: OWNER,
      conditions: {},
      ack: 'journal',
    })
    this.recorded(value.target, source.body)
  }

  async createUpload(): Promise<void> {
    const bucket = this.bucket()
    const key = this.random.pick(this.keys)
    const request = {
      bucket,
      key,
      owner: OWNER,
      attributes: PLAIN,
      checksumAlgorithm: undefined,
      checksumType: undefined,
    }
    const { value } = await this.made.namespace.createUpload(request)
    this.uploads.push({ bucket, key, uploadId: value.uploadId, parts: new Map() })
  }

  async putPart(): Promise<void> {
    if (this.uploads.length === 0) return
    const upload = this.random.pick(this.uploads)
    const partNumber = 1 + this.random.below(100)
    const etag = this.etag()
    const source = this.random.chance(0.5) ? this.source() : undefined
    const common = { ...upload, partNumber, etag, checksum: undefined }
    if (source) {
      const offset = this.random.below(source.size + 1)
      const range = this.random.chance(0.5)
        ? undefined
        : { offset, length: this.random.below(source.size - offset + 1) }
      const { length = source.size } = range ?? {}
      const call = this.made.namespace.copyPart({ ...common, source, sourceConditions: {}, range })
      if ('inline' in source.body || length === 0) {
        await expect(call).rejects.toMatchObject({ code: 'ConditionalRequestConflict' })
        return
      }
      await call
      upload.parts.set(partNumber, { etag, body: { ranges: cut(source.body.ranges, range?.offset ?? 0, length) } })
      return
    }
    const run = this.random.chance(0.05) ? undefined : await this.made.run(1 + this.random.below(20))
    await this.made.namespace.putPart({ ...common, run, size: run?.length ?? 0 })
    upload.parts.set(partNumber, { etag, body: { ranges: run ? [[run.segmentOffset, run.length]] : [] } })
  }

  async putParts(): Promise<void> {
    for (let i = 0; i < 50; i++) await this.putPart()
  }

  async finishUpload(): Promise<void> {
    const upload = this.random.pick(this.uploads)
    this.uploads.splice(this.uploads.indexOf(upload), 1)
    const parts = [...upload.parts].filter(() => this.random.chance(0.8)).sort(([a], [b]) => a - b)
    if (parts.length === 0 || this.random.chance(0.2)) {
      await this.made.namespace.abortUpload(upload.bucket, upload.key, upload.uploadId)
      return
    }
    const request = {
      ...upload,
      parts: parts.map(([partNumber, { etag }]) => ({ partNumber, etag })),
      etag: `${this.etag()}-${parts.length}`,
      checksum: undefined,
      conditions: {},
      ack: 'journal',
    } as const
    const { value } = await this.made.namespace.completeUpload(request)
    const ranges = parts.flatMap(([, { body }]) => ('ranges' in body ? [...body.ranges] : []))
    this.recorded(value, { ranges })
    expect(value.partsCount).toBe(parts.length)
    if (value.body.kind !== 'content') throw new Error('a completed upload has a content')
    const known = await this.made.namespace.contentParts(value.body.content, 0, 1000)
    expect(known.parts.map((part) => part.etag)).toEqual(parts.map(([, { etag }]) => etag))
    expect((await this.made.namespace.completeUpload(request)).value).toMatchObject({ inode: value.inode })
  }

  async setVersioning(): Promise<void> {
    const versioning = this.random.chance(0.6) ? 'enabled' : 'suspended'
    this.model('box').versioning = versioning
    await this.made.namespace.setVersioning('box', versioning)
  }

  async dismantle(): Promise<void> {
    await this.made.namespace.flush()
    for (let i = this.random.below(8); i >= 0; i--) await this.made.namespace.dismantle(this.made.namespace.revision())
  }

  async compare(): Promise<void> {
    for (const [bucket, model] of this.models) {
      for (const key of this.keys) {
        for (const version of model.versions(key)) {
          const call = this.made.namespace.lookup(bucket, key, version.id)
          if (version.marker) {
            await expect(call).rejects.toMatchObject({ code: 'MethodNotAllowed' })
            continue
          }
          if (!model.isKept(version)) {
            await expect(call).rejects.toMatchObject({ code: 'NoSuchVersion' })
            continue
          }
          const found = await call
          await this.compareBody(found, this.bodyOf(bucket, key, version.id))
        }
        const current = model.current(key)
        const found = await this.made.namespace.lookup(bucket, key).catch((error: unknown) => {
          if (isTidegateError(error, 'NoSuchKey')) return undefined
          throw error
        })
        expect(found && (found.versionId ?? 'null'), key).toBe(current?.id)
        expect(found?.expiresMs).toBe(current?.expiresMs)
      }
    }
    await checkNamespace(this.made.store)
  }

  async compareBody(version: ObjectVersion, body: Body): Promise<void> {
    if (version.body.kind === 'inline') {
      expect({ inline: version.body.bytes.length }).toEqual(body)
      return
    }
    if ('inline' in body || version.body.kind === 'external') throw new Error('the body should be a content')
    const offset = this.random.below(version.size + 1)
    const length = this.random.below(version.size - offset + 1)
    const whole = this.random.chance(0.5)
    const wanted = whole ? { offset: 0, length: version.size } : { offset, length }
    const extents = await this.made.namespace.extents(version.body.content, wanted.offset, wanted.length)
    let at = wanted.offset
    for (const extent of extents) {
      expect(extent.offset).toBe(at)
      at += extent.length
    }
    expect(joined(extents.map((extent) => [extent.segmentOffset, extent.length] as const))).toEqual(
      joined(cut(body.ranges, wanted.offset, wanted.length)),
    )
  }
}

function cut(ranges: readonly (readonly [number, number])[], offset: number, length: number): [number, number][] {
  const result: [number, number][] = []
  let start = 0
  for (const [at, size] of ranges) {
    const from = Math.max(offset, start)
    const to = Math.min(offset + length, start + size)
    if (from < to) result.push([at + from - start, to - from])
    start += size
  }
  return result
}

/** Adjacent ranges made one, so that only the bytes count. */
function joined(ranges: readonly (readonly [number, number])[]): [number, number][] {
  const result: [number, number][] = []
  for (const [at, length] of ranges) {
    const last = result.at(-1)
    if (last && last[0] + last[1] === at) last[1] += length
    else if (length > 0) result.push([at, length])
  }
  return result
}

const OPERATIONS: readonly (readonly [number, (run: Run) => Promise<void>])[] = [
  [30, (run) => run.put()],
  [25, (run) => run.remove()],
  [12, (run) => run.copy()],
  [6, (run) => run.createUpload()],
  [20, (run) => run.putPart()],
  [2, (run) => run.putParts()],
  [5, (run) => (run.uploads.length > 0 ? run.finishUpload() : Promise.resolve())],
  [2, (run) => run.setVersioning()],
  [4, (run) => run.dismantle()],
  [8, (run) => run.create()],
  [6, (run) => run.passTime()],
  [3, (run) => run.expire()],
]
const WEIGHTS = OPERATIONS.reduce((sum, [weight]) => sum + weight, 0)

function pickOperation(random: Random): (run: Run) => Promise<void> {
  let at = random.below(WEIGHTS)
  for (const [weight, operation] of OPERATIONS) {
    if (at < weight) return operation
    at -= weight
  }
  throw new Error('weights add up')
}

async function runOperations(seed: number, options: MemoryStoreOptions, operations: number): Promise<void> {
  const random = new Random(seed)
  for (let done = 0; done < operations;) {
    const made = await fixture(options)
    await made.bucket('box')
    await made.bucket('plain')
    const run = new Run(
      random,
      made,
      new Map([
        ['box', new BucketModel(() => made.clock.ms)],
        ['plain', new BucketModel(() => made.clock.ms)],
      ]),
    )
    for (let i = 0; i < 400; i++, done++) {
      await pickOperation(random)(run)
      if (i % 40 === 0) await run.compare()
    }
    await run.compare()
    await removeEverything(run)
    await made.stop()
  }
}

/** After everything is deleted and reclaimed nothing is left: no directory, no content, no live byte. */
async function removeEverything(run: Run): Promise<void> {
  const { made } = run
  while ([...run.models.values()].some((model) => model.expired().length > 0)) await run.expire()
  for (const upload of run.uploads) await made.namespace.abortUpload(upload.bucket, upload.key, upload.uploadId)
  for (const [bucket, model] of run.models) {
    for (const key of run.keys) for (const { id } of model.versions(key)) await made.remove(bucket, key, id)
    await made.namespace.deleteBucket(bucket)
  }
  const emptied = await made.reclaim()
  const left = { inodes: 0, contents: 0, dropped: 0, parts: 0, uploads: 0, hidden: 0 }
  expect(await checkNamespace(made.store)).toEqual(left)
  expect(await made.namespace.segment(made.segment)).toMatchObject({ liveBytes: 0 })
  expect(emptied).toEqual([])
  await made.namespace.segmentChanged(made.segment, 'sealed', 1)
  expect(await made.reclaim()).toEqual([made.segment])
}

describe(`random operations against a flat model (seed ${SEED})`, () => {
  test(
    'C1, C9, C11, C25: objects, versions, copies and uploads',
    async () => {
      await runOperations(SEED, {}, 8000)
    },
    LONG_RUN_MS,
  )

  test(
    'C1, C2: the same with every transaction run twice, 128 operations at most',
    async () => {
      await runOperations(SEED + 1, { forceRetry: true, operationsMax: 128 }, 3000)
    },
    LONG_RUN_MS,
  )

  test('C1: many at once leave a consistent state', async () => {
    const random = new Random(SEED + 2)
    const made = await fixture()
    await made.bucket('box', 'enabled')
    await made.bucket('plain')
    const models = new Map([
      ['box', new BucketModel()],
      ['plain', new BucketModel()],
    ])
    const run = new Run(random, made, models)
    for (let round = 0; round < 60; round++) {
      const calls = Array.from({ length: 24 }, async () => {
        const bucket = random.pick(['box', 'plain'])
        const key = random.pick(run.keys)
        const other = random.pick(run.keys)
        const choice = random.below(6)
        if (choice === 0) await made.put(bucket, key, { run: await made.run(10) })
        else if (choice === 4) await made.put(bucket, key, { run: await made.run(10), ttlMs: 1 + random.below(50) })
        else if (choice === 5) await made.namespace.expire()
        else if (choice === 1) await made.remove(bucket, key)
        else if (choice === 2) await made.namespace.dismantle(made.namespace.revision())
        else {
          await made.namespace
            .copy({
              source: { bucket, key },
              sourceConditions: {},
              bucket,
              key: other,
              attributes: undefined,
              tags: undefined,
              owner: OWNER,
              conditions: {},
              ack: 'journal',
            })
            .catch((error: unknown) => {
              if (!isTidegateError(error, 'NoSuchKey')) throw error
            })
        }
      })
      await Promise.all(calls)
      made.clock.ms += random.below(30)
      if (round % 10 === 0) await checkNamespace(made.store)
    }
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 0 })
    await made.stop()
  })
})
