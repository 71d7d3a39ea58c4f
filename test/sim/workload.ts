/** What clients do to one life of the node, at random and at once. Each call is an entry in the history. */
import { createHash } from 'node:crypto'
import { NO_CONDITIONS } from '../../src/common/conditions.ts'
import { isTidegateError, TidegateError, type ErrorCode } from '../../src/common/errors.ts'
import type { AckLevel, ObjectAttributes } from '../../src/common/model.ts'
import type { BodySource } from '../../src/store/types.ts'
import type { Random } from '../model/random.ts'
import { placeName, type History, type Place, type Value, type Write } from './history.ts'
import type { Life } from './life.ts'
import { ValuesWorkload, type CounterMemory } from './values-workload.ts'

export const PLAIN_BUCKET = 'plain'
export const VERSIONED_BUCKET = 'versioned'

export const OWNER = 'root'
export const ATTRIBUTES: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
/** Around every boundary of TINY_LIMITS. */
const SIZES = [
  0, 1, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 511, 600, 1023, 1024, 1025, 1300, 2048, 3000,
]

const LOCAL_JOBS = ['seal', 'reclaim', 'reclaim-remote', 'compact', 'expire'] as const
const REMOTE_JOBS = [...LOCAL_JOBS, 'names', 'names', 'names', 'collect'] as const
const REMOTE_REFUSALS: readonly ErrorCode[] = ['AccessDenied', 'SlowDown']

/** Most lives are as long as this, or longer. */
const TTL_MS_MAX = 60

export interface Found {
  readonly value: Value
  readonly expiresMs: number | undefined
}

const NOTHING: Found = { value: undefined, expiresMs: undefined }

/** An upload in progress, kept over crashes: its parts must be. */
export interface KnownUpload extends Place {
  readonly uploadId: string
  /** Parts acknowledged; those that are not durable do not outlive the life they were put in. */
  readonly parts: Map<number, { etag: string; value: Buffer; durable: boolean }>
}

/** What the workload remembers from life to life. */
export interface Memory {
  readonly history: History
  readonly uploads: Set<KnownUpload>
  readonly valuesByEtag: Map<string, Buffer>
  readonly counts: Record<string, number>
  readonly counter: CounterMemory
}

/** A promise was broken: what the simulation is there to find. */
export class BrokenPromise extends Error {}

export class Workload {
  readonly #life: Life
  readonly #random: Random
  readonly #memory: Memory
  /** Disks have failed or filled up in this life: errors are to be expected. */
  badWeather = false
  readonly values: ValuesWorkload

  constructor(life: Life, random: Random, memory: Memory) {
    this.#life = life
    this.#random = random
    this.#memory = memory
    this.values = new ValuesWorkload(life, this, { random, history: memory.history, counter: memory.counter })
  }

  async act(): Promise<void> {
    const roll = this.#random.next()
    if (roll < 0.3) return await this.#put()
    if (roll < 0.38) return await this.values.act()
    if (roll < 0.56) return await this.#get()
    if (roll < 0.66) return await this.#delete()
    if (roll < 0.75) return await this.#copy()
    if (roll < 0.86) return await this.#upload()
    if (roll < 0.9) return await this.#deleteVersion()
    return await this.#round()
  }

  #place(): Place {
    return this.#random.pick(this.#memory.history.places)
  }

  anyAck(): AckLevel {
    return this.#random.pick(['journal', 'journal', 'journal', 'memory', 'memory', 'persisted'])
  }

  #value(sizeMin = 0): Buffer {
    const bytes = Buffer.alloc(Math.max(sizeMin, this.#random.pick(SIZES)))
    for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(this.#random.below(2 ** 32), at)
    for (let at = bytes.length - (bytes.length % 4); at < bytes.length; at++) bytes[at] = this.#random.below(256)
    this.#memory.valuesByEtag.set(md5(bytes), bytes)
    return bytes
  }

  /** Runs a write and enters its outcome. Undefined when it failed in a way that the weather explains. */
  async #write<T>(
    place: Place,
    write: { value: Value; what: string; ack: AckLevel; ttlMs?: number | undefined; also?: () => readonly ErrorCode[] },
    run: () => Promise<T>,
  ): Promise<T | undefined> {
    const { history } = this.#memory
    const expires = write.ttlMs === undefined ? undefined : { fromMs: this.#nowMs() + write.ttlMs, toMs: Infinity }
    const entry: Write = history.begin(place, { ...write, durable: write.ack !== 'memory', expires })
    try {
      const result = await run()
      if (expires) entry.expires = { ...expires, toMs: this.#nowMs() + (write.ttlMs ?? 0) }
      history.end(entry, 'acknowledged')
      return result
    } catch (error) {
      history.end(entry, outcomeOf(error))
      this.forgive(error, write.what, write.also?.())
      return undefined
    }
  }

  /** Throws unless the weather explains it. */
  forgive(error: unknown, what: string, also: readonly ErrorCode[] = []): void {
    const code = isTidegateError(error) ? error.code : undefined
    this.count(code ?? 'error')
    // Bounded waits may end in any weather: virtual time jumps ahead when nothing else is due.
    if (outcomeOf(error) === 'acknowledged') return
    if (code === 'SlowDown' || (code !== undefined && also.includes(code))) return
    if (this.badWeather && (code === 'StorageFull' || code === 'Unavailable')) return
    throw new BrokenPromise(
      `${what} failed${this.badWeather ? ' in bad weather' : ''}: ${String((error as Error).stack)}`,
      { cause: error },
    )
  }

  count(what: string): void {
    this.#memory.counts[what] = (this.#memory.counts[what] ?? 0) + 1
  }

  async #put(): Promise<void> {
    const place = this.#place()
    const value = this.#value()
    const ack = this.anyAck()
    const body = await this.#body(value, place)
    if (!body) return
    const ttlMs = this.#random.chance(0.25) ? 1 + this.#random.below(TTL_MS_MAX) : undefined
    const what = `put ${ack} ${body.kind}${ttlMs === undefined ? '' : ' expiring'}`
    const done = await this.#write(place, { value, what, ack, ttlMs }, async () => {
      try {
        return await this.#life.engine.store.objects.put({
          ...place,
          body,
          attributes: ATTRIBUTES,
          checksum: undefined,
          owner: OWNER,
          conditions: NO_CONDITIONS,
          ack,
          ttlMs,
        })
      } finally {
        if (body.kind === 'streamed') await this.#life.engine.store.bodies.discard(body.body)
      }
    })
    if (done) this.count(ttlMs === undefined ? `put ${ack}` : `put expiring ${ack}`)
    if (done && place.bucket === VERSIONED_BUCKET && done.versionId && ack !== 'memory') {
      this.#memory.history.versions.push({ ...place, versionId: done.versionId, value, removed: false })
    }
  }

  /** Undefined when it was given up half-way, or there was no room for it. */
  async #body(value: Buffer, label: Place): Promise<BodySource | undefined> {
    const random = this.#random
    if (value.length <= 300 && random.chance(0.5)) {
      return { kind: 'bytes', bytes: value, digests: { md5: md5(value), checksums: {} } }
    }
    const { bodies } = this.#life.engine.store
    const expectedLength = random.chance(0.6) ? value.length : undefined
    const giveUpAt = random.chance(0.1) ? random.below(value.length + 1) : Infinity
    let body: number | undefined
    try {
      body = await bodies.open({
        expectedLength,
        algorithms: random.chance(0.3) ? ['CRC32C'] : [],
        sha256: false,
        label,
      })
      for (let at = 0; at < value.length && at < giveUpAt;) {
        const chunk = Buffer.from(value.subarray(at, at + 1 + random.below(700)))
        await bodies.append(body, chunk)
        chunk.fill(0xee)
        at += chunk.length
      }
      if (giveUpAt !== Infinity) {
        await bodies.discard(body)
        this.count('discarded')
        return undefined
      }
      const { digests, length } = await bodies.finish(body)
      if (digests.md5 !== md5(value) || length !== value.length)
        throw new BrokenPromise('a body has other digests than its bytes')
      return { kind: 'streamed', body }
    } catch (error) {
      if (body !== undefined) await bodies.discard(body)
      if (error instanceof BrokenPromise) throw error
      this.forgive(error, 'streaming a body')
      return undefined
    }
  }

  async #get(): Promise<void> {
    const place = this.#place()
    await this.check(place, { holdMsMax: 8 })
    this.count('get')
  }

  /** Reads an object and holds what is found against the history. */
  async check(place: Place, options: { holdMsMax: number }): Promise<Found> {
    const { history } = this.#memory
    const [from, fromMs] = [history.stamps.next(), this.#nowMs()]
    let found: Found
    try {
      found = await this.#read(place, options)
    } catch (error) {
      this.forgive(error, `reading ${placeName(place)}`)
      return NOTHING
    }
    const wrong = history.judge(place, found.value, { from, fromMs, to: history.stamps.next(), toMs: this.#nowMs() })
    if (wrong) throw new BrokenPromise(wrong)
    return found
  }

  #nowMs(): number {
    return this.#life.scheduler.clock.nowMs()
  }

  async #read(place: Place & { versionId?: string }, { holdMsMax }: { holdMsMax: number }): Promise<Found> {
    const { objects, reading } = this.#life.engine.store
    const opened = await objects.open(place, NO_CONDITIONS).catch((error: unknown) => {
      if (isTidegateError(error, 'NoSuchKey')) return undefined
      throw error
    })
    if (!opened) return NOTHING
    const { reader, version } = opened
    const { expiresMs } = version
    const durable = version.revision <= this.#life.engine.namespace.durableRevision()
    try {
      if (version.body.kind === 'inline') return { value: Buffer.from(version.body.bytes), expiresMs }
      const value = Buffer.alloc(version.size)
      for (let at = 0; at < version.size;) {
        if (holdMsMax > 0 && this.#random.chance(0.3)) await this.#pause(holdMsMax)
        const slice = await reading.read(reader, at, 1 + this.#random.below(version.size - at))
        value.set(reading.view(slice), at)
        if (holdMsMax > 0 && this.#random.chance(0.3)) await this.#pause(holdMsMax)
        const stillThere = value.subarray(at, at + slice.length).equals(reading.view(slice))
        reading.release(slice.lease)
        if (!stillThere) throw new BrokenPromise(`${placeName(place)}: leased bytes changed (C13)`)
        at += slice.length
      }
      return { value, expiresMs }
    } catch (error) {
      // What was opened before it was durable may be undone under the reader, bytes and all.
      if (!durable && isTidegateError(error, 'DataLost'))
        throw new TidegateError('Unavailable', 'undone', { cause: error })
      throw error
    } finally {
      reading.close(reader)
    }
  }

  /** Every version that was acknowledged is there, unless a delete named it. */
  async checkVersions(): Promise<void> {
    for (const version of this.#memory.history.versions) {
      if (version.removed) continue
      const { bucket, key, versionId } = version
      const { value } = await this.#read({ bucket, key, versionId }, { holdMsMax: 0 })
      if (!value?.equals(version.value))
        throw new BrokenPromise(`version ${versionId} of ${placeName(version)} is not what was written`)
    }
  }

  #pause(msMax: number): Promise<void> {
    return this.#life.scheduler.delay(this.#random.next() * msMax)
  }

  async #delete(): Promise<void> {
    const place = this.#place()
    const ack = this.#random.chance(0.8) ? 'journal' : 'memory'
    await this.#write(place, { value: undefined, what: `delete ${ack}`, ack }, () =>
      this.#life.engine.store.objects.delete(place, NO_CONDITIONS, ack),
    )
    this.count('delete')
  }

  async #deleteVersion(): Promise<void> {
    const { versions, places } = this.#memory.history
    const version = versions.length > 0 ? this.#random.pick(versions) : undefined
    if (!version || version.removed || !places.some((place) => place.key === version.key)) return
    // What becomes the current version then depends on the order of all that is under way: it is not followed here.
    const { objects } = this.#life.engine.store
    const current = await objects.head(version, NO_CONDITIONS).then(
      (head) => head,
      () => undefined,
    )
    if (!current) throw new BrokenPromise(`version ${version.versionId} of ${placeName(version)} is gone`)
    const newest = await objects
      .head({ bucket: version.bucket, key: version.key }, NO_CONDITIONS)
      .catch(() => undefined)
    if (!newest || newest.versionId === version.versionId) return
    version.removed = true
    await objects
      .delete({ bucket: version.bucket, key: version.key, versionId: version.versionId }, NO_CONDITIONS)
      .catch((error: unknown) => this.forgive(error, 'deleting a version'))
    this.count('delete version')
  }

  async #copy(): Promise<void> {
    const source = this.#place()
    const target = this.#place()
    const { objects } = this.#life.engine.store
    const found = await objects.head(source, NO_CONDITIONS).catch(() => undefined)
    const value = found && this.#memory.valuesByEtag.get(found.etag)
    if (!found || !value) return
    const ack = this.anyAck()
    const { history } = this.#memory
    const write = history.begin(target, {
      value,
      what: `copy ${ack} of ${placeName(source)}`,
      durable: ack !== 'memory',
    })
    try {
      await objects.copy({
        source,
        sourceConditions: { ifMatch: [found.etag] },
        ...target,
        attributes: undefined,
        tags: undefined,
        owner: OWNER,
        conditions: NO_CONDITIONS,
        ack,
      })
      history.end(write, 'acknowledged')
      this.count(`copy ${ack}`)
    } catch (error) {
      history.end(write, outcomeOf(error))
      this.forgive(error, 'copy', ['PreconditionFailed', 'NoSuchKey'])
    }
  }

  async #upload(): Promise<void> {
    const place = this.#place()
    const { uploads } = this.#life.engine.store
    const record = await uploads
      .create({ ...place, owner: OWNER, attributes: ATTRIBUTES, checksumAlgorithm: undefined, checksumType: undefined })
      .catch((error: unknown) => this.forgive(error, 'create upload'))
    if (!record) return
    const upload: KnownUpload = { ...place, uploadId: record.uploadId, parts: new Map() }
    this.#memory.uploads.add(upload)
    const partsWanted = 1 + this.#random.below(4)
    for (let partNumber = 1; partNumber <= partsWanted; partNumber++) {
      if (this.#random.chance(0.3)) await this.#copyPart(upload, partNumber)
      else await this.#putPart(upload, partNumber)
    }
    if (this.#random.chance(0.15)) return
    await this.finishUpload(upload)
  }

  async #putPart(upload: KnownUpload, partNumber: number): Promise<void> {
    const { bucket, key, uploadId } = upload
    const value = this.#value(1)
    const ack = this.anyAck()
    const body = await this.#body(value, upload)
    if (!body) return
    const { uploads, bodies } = this.#life.engine.store
    try {
      const { etag } = await uploads.putPart({ bucket, key, uploadId, partNumber, body, checksum: undefined, ack })
      upload.parts.set(partNumber, { etag, value, durable: ack !== 'memory' })
      this.count(`part ${ack}`)
    } catch (error) {
      this.forgive(error, 'put part')
    } finally {
      if (body.kind === 'streamed') await bodies.discard(body.body)
    }
  }

  async #copyPart(upload: KnownUpload, partNumber: number): Promise<void> {
    const source = this.#place()
    const { objects, uploads } = this.#life.engine.store
    const found = await objects.head(source, NO_CONDITIONS).catch(() => undefined)
    const whole = found && this.#memory.valuesByEtag.get(found.etag)
    if (!found || !whole || whole.length === 0) return
    const offset = this.#random.below(whole.length)
    const range = { offset, length: 1 + this.#random.below(whole.length - offset) }
    const value = whole.subarray(range.offset, range.offset + range.length)
    try {
      const { bucket, key, uploadId } = upload
      const sourceConditions = { ifMatch: [found.etag] }
      const { etag } = await uploads.copyPart({
        source,
        sourceConditions,
        range,
        bucket,
        key,
        uploadId,
        partNumber,
        ack: 'journal',
      })
      upload.parts.set(partNumber, { etag, value, durable: true })
      this.count('part copied')
    } catch (error) {
      this.forgive(error, 'copy part', ['PreconditionFailed', 'NoSuchKey', 'ConditionalRequestConflict'])
    }
  }

  /** Completes an upload from the parts that are known to be there, or aborts it. */
  async finishUpload(upload: KnownUpload): Promise<void> {
    this.#memory.uploads.delete(upload)
    // Commits at level `memory` are undone when a group that they are in cannot be made durable.
    if (this.badWeather) dropUnsafeParts(upload)
    const { uploads } = this.#life.engine.store
    const { bucket, key, uploadId } = upload
    const parts = [...upload.parts].sort(([one], [other]) => one - other)
    if (parts.length === 0 || this.#random.chance(0.1)) {
      await uploads.abort({ bucket, key, uploadId }).catch((error: unknown) => this.forgive(error, 'abort'))
      return
    }
    const value = Buffer.concat(parts.map(([, part]) => part.value))
    const ack = this.anyAck()
    // Nor may the weather turn meanwhile: a part at level `memory` is then undone under the Complete.
    const unsafe = parts.some(([, part]) => !part.durable)
    const also = (): readonly ErrorCode[] => (unsafe && this.badWeather ? ['InvalidPart'] : [])
    const done = await this.#write({ bucket, key }, { value, what: `complete ${ack}`, ack, also }, () =>
      uploads.complete({
        bucket,
        key,
        uploadId,
        parts: parts.map(([partNumber, { etag }]) => ({ partNumber, etag, checksum: undefined })),
        checksum: undefined,
        checksumType: undefined,
        objectSize: value.length,
        conditions: NO_CONDITIONS,
        ack,
      }),
    )
    if (!done) return
    this.#memory.valuesByEtag.set(done.etag, value)
    this.count(`complete ${ack}`)
    if (bucket === VERSIONED_BUCKET && done.versionId && ack !== 'memory') {
      this.#memory.history.versions.push({ bucket, key, versionId: done.versionId, value, removed: false })
    }
  }

  /** One round of a background job, which production does on timers. */
  async #round(): Promise<void> {
    const { journal, reclaimer, namespace, names, collector } = this.#life.engine
    const job = this.#random.pick(names ? REMOTE_JOBS : LOCAL_JOBS)
    try {
      if (job === 'seal') journal.sealAged()
      else if (job === 'expire')
        this.#memory.counts['expired'] =
          (this.#memory.counts['expired'] ?? 0) + (await namespace.expire()).value.expired
      else if (job === 'reclaim') await reclaimer.step()
      else if (job === 'reclaim-remote') await reclaimer.removePersisted()
      else if (job === 'names') await names?.round()
      else if (job === 'collect') await collector?.step()
      else await reclaimer.compactSome()
    } catch (error) {
      // What the external store answers is nobody's but the jobs': who reads or writes is never told AccessDenied for it.
      this.forgive(error, job, ['DataLost', 'ConditionalRequestConflict', ...(this.badWeather ? REMOTE_REFUSALS : [])])
    }
  }
}

export function dropUnsafeParts(upload: KnownUpload): void {
  for (const [partNumber, part] of upload.parts) if (!part.durable) upload.parts.delete(partNumber)
}

export async function makeBuckets(life: Life): Promise<void> {
  const { buckets } = life.engine.store
  for (const name of [PLAIN_BUCKET, VERSIONED_BUCKET]) {
    await buckets.create({ name, owner: OWNER, region: 'us-east-1' })
  }
  await buckets.setVersioning(VERSIONED_BUCKET, 'enabled')
}

export function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex')
}

/** A write that only waited in vain for the remote store is published, and as safe as `journal`. */
export function outcomeOf(error: unknown): 'acknowledged' | 'failed' {
  const published = isTidegateError(error, 'Unavailable') && error.details['published'] === true
  return published ? 'acknowledged' : 'failed'
}
