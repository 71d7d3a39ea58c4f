/**
 * Random changes outside and here, with pages of random scopes and sizes that are merged late and in any order. At every moment what counts as
 * listed must be so: a key that is covered since its last change outside is here what it is there, unless it is dirty. In the end, after
 * one listing of all, both are equal but for the dirty keys, and no directory is left over.
 */
import { describe, expect, test } from 'vitest'
import { isTidegateError } from '../../../../../src/common/errors.ts'
import type { SeenPage } from '../../../../../src/meta/namespace/attached/types.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { Random, testSeed } from '../../../../model/random.ts'
import { BUCKET, DEEP, OUTSIDE_MODIFIED_MS, attachedFixture, shallow, type AttachedFixture } from './fixture.ts'
import { OWNER, PLAIN } from '../fixture.ts'

const DIRECTORIES = ['', 'p/', 'q/', 'p/s/', 'p/s/t/', 'q/s/', 'r//']
const NAMES = ['', 'a', 'b', 'b.c', 'd', 'é']
const STEPS = 300
const IN_FLIGHT_MAX = 4

describe('C32', () => {
  const first = testSeed()
  for (let seed = first; seed < first + 6; seed++) {
    test(`what is covered is as it is outside, seed ${seed}`, () => play(seed, {}))
  }
  test(`the same with small transactions, seed ${first}`, () => play(first, { operationsMax: 128 }))
  test(`the same with every transaction run twice, seed ${first}`, () => play(first, { forceRetry: true }))
})

async function play(seed: number, options: Parameters<typeof attachedFixture>[0]): Promise<void> {
  const world = new World(await attachedFixture(options), seed)
  for (let step = 0; step < STEPS; step++) {
    await world.step()
    await world.check()
  }
  await world.end()
  await world.f.stop()
}

class World {
  readonly f: AttachedFixture
  readonly #random: Random
  readonly #log: string[] = []
  readonly #inFlight: SeenPage[] = []
  /** Of each key outside, and of each that was there. */
  readonly #changedMs = new Map<string, number>()
  #etags = 0

  constructor(f: AttachedFixture, seed: number) {
    this.f = f
    this.#random = new Random(seed)
    for (const directory of DIRECTORIES) {
      for (const name of NAMES) if (directory + name !== '' && this.#random.chance(0.5)) this.#write(directory + name)
    }
  }

  #key(): string {
    for (;;) {
      const key = this.#random.pick(DIRECTORIES) + this.#random.pick(NAMES)
      if (key !== '') return key
    }
  }

  #write(key: string): void {
    this.f.outside.set(key, { etag: `o${++this.#etags}`, size: key.length })
    this.#changedMs.set(key, this.f.clock.ms)
  }

  async step(): Promise<void> {
    this.f.clock.ms += this.#random.chance(0.05) ? 100_000 : 1
    const step = this.#random.below(100)
    if (step < 25) this.#outside()
    else if (step < 50) this.#ask()
    else if (step < 75) await this.#merge()
    else if (step < 80) await this.#look()
    else if (step < 90) await this.#here()
    else if (step < 97) await this.#carryOut()
    else await this.f.mirror.uncover(this.f.attachment.bucketId, this.#random.pick(DIRECTORIES))
  }

  #outside(): void {
    const key = this.#key()
    if (this.#random.chance(0.5)) this.#write(key)
    else if (this.f.outside.delete(key)) this.#changedMs.set(key, this.f.clock.ms)
    this.#log.push(`outside ${key} ${this.f.outside.get(key)?.etag ?? 'gone'}`)
  }

  #ask(): void {
    if (this.#inFlight.length >= IN_FLIGHT_MAX) return
    const directory = this.#random.pick(DIRECTORIES)
    const isDeep = this.#random.chance(0.5)
    const after = this.#random.chance(0.5) ? '' : directory + this.#random.pick(NAMES)
    const limit = 1 + this.#random.below(12)
    const page = this.f.page(isDeep ? DEEP : shallow(directory), { prefix: directory, after, limit })
    this.#inFlight.push(page)
    this.#log.push(`ask ${JSON.stringify(page)}`)
  }

  async #merge(): Promise<void> {
    const [page] = this.#inFlight.splice(this.#random.below(this.#inFlight.length), 1)
    if (!page) return
    const { value } = await this.f.mirror.merge(page)
    this.#log.push(`merge ${page.askedAt}: ${value}`)
  }

  async #look(): Promise<void> {
    const key = this.#key()
    const askedAt = this.f.store.revision()
    await this.f.mirror.mergeOne({ bucketId: this.f.attachment.bucketId, key, found: this.#described(key), askedAt })
    this.#log.push(`look ${key}`)
  }

  #described(key: string): Parameters<AttachedFixture['mirror']['mergeOne']>[0]['found'] {
    const found = this.f.outside.get(key)
    if (!found) return undefined
    const said = { modifiedMs: OUTSIDE_MODIFIED_MS, storageClass: 'STANDARD', attributes: PLAIN, partsCount: undefined }
    return { key, ...found, ...said }
  }

  /** Renames of directories are the tests' of step-move.ts. */
  async #here(): Promise<void> {
    const key = this.#key()
    this.#log.push(`here ${key}`)
    if (this.#random.chance(0.5)) await this.f.put(key, { etag: `h${++this.#etags}` })
    else await this.f.namespace.remove({ bucket: BUCKET, key, conditions: {}, owner: OWNER })
  }

  /** As the write-back queue does it, conditions and all. */
  async #carryOut(): Promise<void> {
    const { bucketId } = this.f.attachment
    const dirty = await this.f.dirty()
    if (dirty.length === 0) return
    const { key } = this.#random.pick(dirty)
    const state = await this.f.mirror.dirtyState(bucketId, key)
    if (!state) return
    const { version } = state
    const { base, revision } = state.dirty
    const held = this.f.outside.get(key)
    const isRefused = (base.kind === 'absent' ? undefined : base.etag) !== held?.etag
    this.#log.push(`carry out ${key}${isRefused ? ': conflict' : ''}`)
    if (!isRefused) {
      if (version) this.f.outside.set(key, { etag: version.etag, size: version.size })
      else this.f.outside.delete(key)
      this.#changedMs.set(key, this.f.clock.ms)
      await this.f.mirror.settle({ bucketId, key, revision, outside: this.#described(key) })
      return
    }
    // Theirs, as who decides may say.
    await this.f.mirror.setAside({
      bucketId,
      key,
      revision,
      as: `${key}.aside${++this.#etags}`,
      outside: this.#described(key),
    })
  }

  async #state(): Promise<{ here: Map<string, string>; dirty: Set<string> }> {
    const page = await this.f.namespace.list({ bucket: BUCKET, prefix: '', delimiter: '', after: '', limit: 1000 })
    const here = new Map(page.objects.map(({ key, etag }) => [key, etag]))
    return { here, dirty: new Set((await this.f.dirty()).map(({ key }) => key)) }
  }

  async check(): Promise<void> {
    const { here, dirty } = await this.#state()
    const { bucketId } = this.f.attachment
    for (const [key, changedMs] of this.#changedMs) {
      if (dirty.has(key)) continue
      // What was asked in the same millisecond may be older than the change.
      const sinceMs = changedMs + 1
      const directory = key.slice(0, key.lastIndexOf('/') + 1)
      const deep = await this.f.mirror.covered(bucketId, DEEP, key, sinceMs)
      const covered = deep ?? (await this.f.mirror.covered(bucketId, shallow(directory), key, sinceMs))
      if (!covered || here.get(key) === this.f.outside.get(key)?.etag) continue
      const differs = `${key} is ${here.get(key)}, outside ${this.f.outside.get(key)?.etag}`
      throw new Error(`${differs}, and covered since ${covered.sinceMs}:\n${this.#log.join('\n')}`)
    }
  }

  async end(): Promise<void> {
    this.f.clock.ms += 1_000_000
    await this.f.mirror.merge(this.f.page(DEEP))
    const { here, dirty } = await this.#state()
    for (const key of dirty) {
      here.delete(key)
      this.f.outside.delete(key)
    }
    const outside = new Map([...this.f.outside].map(([key, { etag }]) => [key, etag]))
    expect(Object.fromEntries(here), this.#log.join('\n')).toEqual(Object.fromEntries(outside))
    expect(await this.f.unlisted()).toBe(0)
    await checkNamespace(this.f.store)
    await this.#forget()
  }

  async #forget(): Promise<void> {
    for (let steps = 0; (await this.f.mirror.forget(this.f.attachment)).value; steps++) expect(steps).toBeLessThan(100)
    await checkNamespace(this.f.store)
    expect(await this.f.mirror.attachments()).toEqual([])
    expect(await this.f.dirty()).toEqual([])
    const gone = await this.f.namespace.bucket(BUCKET).catch((error: unknown) => error)
    expect(isTidegateError(gone, 'NoSuchBucket')).toBe(true)
  }
}
