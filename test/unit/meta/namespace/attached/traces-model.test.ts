/**
 * Random operations of all doors on an attached bucket, between carry-outs as the write-back queue does them, against a map that is the external bucket.
 * After each, what is dirty must be exactly what differs: with the base that lies outside, and with every byte that lies outside still there.
 */
import { afterEach, describe, expect, test } from 'vitest'
import type { ByteString, InodeId } from '../../../../../src/common/ids.ts'
import { externalSegment, isExternalSegment } from '../../../../../src/common/external.ts'
import { isTidegateError } from '../../../../../src/common/errors.ts'
import type { ObjectVersion } from '../../../../../src/common/model.ts'
import { EXTERNAL_SEGMENTS } from '../../../../../src/meta/namespace/attached/rows.ts'
import { prefixRange } from '../../../../../src/meta/namespace/keys.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { Random } from '../../../../model/random.ts'
import { OWNER, PLAIN, publishRequest } from '../fixture.ts'
import { BUCKET, DEEP, attachedFixture, type AttachedFixture } from './fixture.ts'

const NAMES = ['a', 'b', 'c', 'd']
const DIRECTORIES = ['', 'p/', 'q/', 'p/s/', 'q/s/']
const SIZE = 64

const open: AttachedFixture[] = []

afterEach(async () => {
  for (const made of open.splice(0)) await made.stop()
})

describe('C32', () => {
  for (let seed = 1; seed <= 24; seed++) {
    test(`what is dirty is what differs, seed ${seed}`, async () => {
      const world = await World.begin(seed)
      for (let step = 0; step < 120; step++) {
        await world.step()
        await world.check()
      }
      await world.drain()
      await checkNamespace(world.made.store)
    })
  }
})

class World {
  readonly made: AttachedFixture
  readonly random: Random
  readonly log: string[] = []
  #etags = 0

  private constructor(made: AttachedFixture, seed: number) {
    this.made = made
    this.random = new Random(seed)
  }

  static async begin(seed: number): Promise<World> {
    const made = await attachedFixture()
    open.push(made)
    const world = new World(made, seed)
    for (const directory of DIRECTORIES) {
      for (const name of NAMES) if (world.random.chance(0.6)) world.#outsidePut(directory + name)
    }
    await made.mirror.merge(made.page(DEEP))
    return world
  }

  get #bucketId(): number {
    return this.made.attachment.bucketId
  }

  #outsidePut(key: string, size: number = SIZE): string {
    const etag = `out-${++this.#etags}`
    this.made.outside.set(key, { etag, size })
    return etag
  }

  #key(): string {
    return this.random.pick(DIRECTORIES) + this.random.pick(NAMES)
  }

  async step(): Promise<void> {
    const actions = [
      () => this.#publish(this.#key()),
      () => this.#publish(this.#key()),
      () => this.#remove(this.#key()),
      () => this.#tags(this.#key()),
      () => this.#rename(this.#key(), this.#key()),
      () =>
        this.#rename(
          this.random.pick(['p/', 'q/', 'p/s/', 'q/s/']),
          this.random.pick(['p/', 'q/', 'p/s/', 'q/s/', 'r/']),
        ),
      () => this.#fileRename(),
      () => this.#write(this.#key()),
      () => this.#write(this.#key()),
      () => this.#makeFile(),
      () => this.#touch(this.#key()),
      () => this.#stepMoves(),
      () => this.#carryOut(),
      () => this.#carryOut(),
      () => this.#carryOut(),
    ]
    try {
      await this.random.pick(actions)()
    } catch (error) {
      if (!isTidegateError(error)) throw error
      this.log.push(`  ${error.code}`)
    }
  }

  async #publish(key: string): Promise<void> {
    this.log.push(`put ${key}`)
    await this.made.namespace.publish(publishRequest(BUCKET, key, { bytes: 'x'.repeat(this.random.below(SIZE)) }))
  }

  async #remove(key: string): Promise<void> {
    this.log.push(`remove ${key}`)
    await this.made.namespace.remove({ bucket: BUCKET, key, conditions: {}, owner: OWNER })
  }

  async #tags(key: string): Promise<void> {
    this.log.push(`tags ${key}`)
    await this.made.namespace.setTags({ bucket: BUCKET, key }, { at: String(this.random.below(3)) })
  }

  async #rename(from: string, to: string): Promise<void> {
    this.log.push(`rename ${from} ${to}`)
    await this.made.namespace.rename({ bucket: BUCKET, from, to, replace: this.random.chance(0.7) })
  }

  async #fileRename(): Promise<void> {
    const [from, to] = [this.#anyName(), this.#anyName()]
    const mode = this.random.pick(['replace', 'no-replace', 'exchange'] as const)
    this.log.push(`rename(2) ${from} ${to} ${mode}`)
    await this.made.namespace.files.renameFile(await this.#fileName(from), await this.#fileName(to), {
      mode,
      keep: () => false,
    })
  }

  #anyName(): string {
    return this.random.chance(0.4) ? this.random.pick(['p', 'q', 'p/s', 'q/s']) : this.#key()
  }

  async #fileName(path: string): Promise<{ parent: InodeId; name: ByteString }> {
    const parts = path.split('/')
    const name = parts.pop() as ByteString
    let parent: InodeId = this.#bucketId
    for (const part of parts) parent = (await this.made.namespace.files.findFile(parent, part as ByteString)).inode
    return { parent, name }
  }

  /** In place: the middle, the end, or a truncation. */
  async #write(key: string): Promise<void> {
    this.log.push(`write ${key}`)
    const { inode, size } = await this.made.namespace.lookup(BUCKET, key)
    const { body } = await this.made.namespace.lookup(BUCKET, key)
    if (body.kind === 'inline') return
    const content = await this.made.namespace.allocateContentId()
    const length = 1 + this.random.below(8)
    const run = { content, segment: 'ab'.repeat(16) as never, segmentOffset: 0, length }
    const offset = this.random.below(size + 1)
    const cut = this.random.chance(0.2)
    await this.made.namespace.files.publishFile({
      inode,
      edits: cut ? [] : [{ offset, length, run }],
      inline: undefined,
      size: cut ? Math.max(1, offset) : Math.max(size, offset + length),
      modified: undefined,
      ack: 'journal',
    })
  }

  async #makeFile(): Promise<void> {
    const { parent, name } = await this.#fileName(this.#key())
    const kind = this.random.pick(['file', 'symlink'] as const)
    this.log.push(`make ${kind} ${name} in ${parent}`)
    const made = { kind, target: 'there' as ByteString, mode: 0o644, uid: 0, gid: 0, owner: OWNER }
    await this.made.namespace.files.makeFile(parent, name, made)
  }

  /** No change that counts. */
  async #touch(key: string): Promise<void> {
    const { inode } = await this.made.namespace.lookup(BUCKET, key)
    this.log.push(`touch ${key}`)
    const before = await this.made.dirty()
    await this.made.namespace.files.changeFile(inode, { mode: 0o640, modified: { seconds: 9, nanoseconds: 0 } })
    expect(await this.made.dirty()).toEqual(before)
  }

  async #stepMoves(): Promise<void> {
    for (const { id } of await this.made.mirror.moves(this.#bucketId)) {
      this.log.push(`step move ${id}`)
      if (this.random.chance(0.5)) await this.made.mirror.stepMove(this.#bucketId, id)
    }
  }

  /** As the queue does it; sometimes something happens between the write and the settling. */
  async #carryOut(key?: string): Promise<boolean> {
    const { mirror, outside } = this.made
    if ((await mirror.moves(this.#bucketId)).length > 0) return false
    const keys = await mirror.dirtyKeys(this.#bucketId, '', 1000)
    const chosen = key ?? (keys.length > 0 ? this.random.pick(keys).key : undefined)
    const state = chosen === undefined ? undefined : await mirror.dirtyState(this.#bucketId, chosen)
    if (chosen === undefined || !state || state.dirty.neededBy.length > 0) return false
    this.log.push(`carry out ${chosen}`)
    await this.#sourcesAreThere(state.version, state.extents)
    const { version, dirty } = state
    let written: string | undefined
    if (version) written = this.#outsidePut(chosen, version.size)
    else outside.delete(chosen)
    if (key === undefined && this.random.chance(0.3)) {
      this.log.push('  meanwhile')
      await this.step().catch(() => undefined)
    }
    const seen = outside.get(chosen)
    await mirror.settle({
      bucketId: this.#bucketId,
      key: chosen,
      revision: dirty.revision,
      outside: seen && {
        ...seen,
        key: chosen,
        modifiedMs: 1,
        storageClass: 'STANDARD',
        attributes: PLAIN,
        partsCount: undefined,
      },
      written,
    })
    return true
  }

  async #sourcesAreThere(version: ObjectVersion | undefined, extents: readonly { segment: string }[]): Promise<void> {
    const known = await this.#known()
    for (const { segment } of extents) {
      if (!isExternalSegment(segment as never)) continue
      expect(known, `${version?.key} lies in what is outside\n${this.#story()}`).toContain(segment)
    }
  }

  /** Segments of what lies outside now. */
  async #known(): Promise<string[]> {
    return [...this.made.outside].map(([key, object]) => externalSegment(this.#bucketId, { key, ...object }))
  }

  #story(): string {
    return this.log.slice(-40).join('\n')
  }

  async #local(): Promise<Map<string, ObjectVersion>> {
    const found = new Map<string, ObjectVersion>()
    for (const key of await this.made.list()) found.set(key, await this.made.namespace.lookup(BUCKET, key))
    return found
  }

  async check(): Promise<void> {
    const { outside, mirror } = this.made
    const local = await this.#local()
    const dirty = new Map((await this.made.dirty()).map((row) => [row.key, row]))
    const moves = await mirror.moves(this.#bucketId)
    const isMoving = (key: string): boolean => moves.some(({ from, to }) => key.startsWith(from) || key.startsWith(to))
    const holders = new Map<string, string>()
    for (const [key, { body }] of local) if (body.kind === 'external') holders.set(body.external.key, key)
    const fail = (what: string): never => {
      throw new Error(`${what}\n${this.#story()}`)
    }
    for (const key of new Set([...local.keys(), ...outside.keys(), ...dirty.keys()])) {
      const [here, there, row] = [local.get(key), outside.get(key), dirty.get(key)]
      if (row) {
        const wanted = there ? { kind: 'etag', ...there } : { kind: 'absent' }
        expect({ ...row.base }, `base of ${key}\n${this.#story()}`).toEqual(wanted)
      } else if (!there && !here) continue
      else if (here?.body.kind === 'external' && here.body.external.key === key) {
        if (here.body.external.etag !== there?.etag || here.etag !== there.etag)
          fail(`${key} is clean and as it is outside`)
      } else if (there && here && here.fileMetadata?.['file-target'] !== undefined && here.etag === there.etag) continue
      else if (!moves.length) fail(`${key} differs and is not dirty`)
      else if (there && !here && !holders.has(key) && !isMoving(key)) fail(`${key} was removed and is not dirty`)
      else if (here && !isMoving(key)) fail(`${key} is new and not dirty`)
    }
    await this.#checkSources(local, dirty, moves.length > 0)
  }

  /** Every byte that lies outside is in what is there now, and what holds it is kept. */
  async #checkSources(
    local: ReadonlyMap<string, ObjectVersion>,
    dirty: ReadonlyMap<string, { readonly neededBy: readonly InodeId[] }>,
    isMoving: boolean,
  ): Promise<void> {
    const segments = new Map(
      [...this.made.outside].map(([key, object]) => [externalSegment(this.#bucketId, { key, ...object }), key]),
    )
    for (const [key, { body, inode, size }] of local) {
      const inFile = body.kind === 'inline' ? [] : (await this.made.namespace.files.fileExtents(inode, 0, size)).extents
      for (const { segment } of inFile) {
        if (!isExternalSegment(segment)) continue
        const at = segments.get(segment)
        expect(at, `bytes of ${key} are outside\n${this.#story()}`).toBeDefined()
        if (at === undefined || at === key || isMoving) continue
        expect(dirty.get(at)?.neededBy, `${at} is needed by ${key}\n${this.#story()}`).toContain(inode)
      }
    }
  }

  /** Until both sides are the same. */
  async drain(): Promise<void> {
    const { mirror, outside, namespace } = this.made
    for (let round = 0; round < 200; round++) {
      for (const { id } of await mirror.moves(this.#bucketId)) await mirror.stepMove(this.#bucketId, id)
      const keys = await mirror.dirtyKeys(this.#bucketId, '', 1000)
      if (keys.length === 0) break
      let some = false
      for (const { key } of keys) some = (await this.#carryOut(key)) || some
      if (some || (await mirror.moves(this.#bucketId)).length > 0) continue
      // Each waits for another: one gets bytes of its own.
      const held = keys.find(({ neededBy }) => neededBy.length > 0)
      const at = held && (await mirror.placeOf(held.neededBy[0] as InodeId))
      if (at) await this.#publish(at.key)
    }
    await this.check()
    expect(await this.made.dirty(), this.#story()).toEqual([])
    const local = await this.#local()
    expect([...local.keys()].sort()).toEqual([...outside.keys()].sort())
    for (let quiet = 0; quiet < 3; quiet++) {
      await namespace.flush()
      if ((await namespace.dismantle(namespace.revision())).value.steps > 0) quiet = 0
    }
    // Nothing refers to an external segment any more, so nothing says what it was.
    const left = await this.made.store.read((view) => view.scan(prefixRange(EXTERNAL_SEGMENTS), 100))
    expect(left.map(({ key }) => key)).toEqual([])
  }
}
