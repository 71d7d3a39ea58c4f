/**
 * The mirror of one attached bucket, as far as carrying out needs it: entries, dirty rows and what `settle` and its like do with them, each call one step.
 * Changes are made with `put`, `remove`, `rename`, which leave their trace as the namespace's transactions do.
 */
import { createHash } from 'node:crypto'
import { externalSegment, type ExternalBody } from '../../../src/common/external.ts'
import type { InodeId, SegmentId } from '../../../src/common/ids.ts'
import type { Extent, ObjectAttributes, ObjectBody, ObjectVersion } from '../../../src/common/model.ts'
import type {
  AttachedNames,
  Base,
  Commit,
  DirectoryMove,
  DirtyKey,
  DirtyState,
  ExternalDescription,
} from '../../../src/attach/ports.ts'
import { PLAIN_ATTRIBUTES } from '../../support/memory-bucket.ts'

export const BUCKET_ID = 7

type Names = Pick<
  AttachedNames,
  | 'dirtyKeys'
  | 'dirtyState'
  | 'onDirty'
  | 'settle'
  | 'setAside'
  | 'noteConflict'
  | 'arrived'
  | 'relocate'
  | 'noteTried'
  | 'moves'
  | 'stepMove'
  | 'externalSegment'
  | 'placeOf'
  | 'revision'
>

export interface PutOptions {
  readonly attributes?: ObjectAttributes
  readonly etag?: string
  readonly body?: ObjectBody
  readonly size?: number
}

export class FakeAttachedNames implements Names {
  readonly entries = new Map<string, ObjectVersion>()
  readonly rows = new Map<string, DirtyKey>()
  readonly extents = new Map<InodeId, readonly Extent[]>()
  readonly partSizes = new Map<InodeId, readonly number[]>()
  readonly segments = new Map<SegmentId, ExternalBody>()
  readonly pendingMoves: DirectoryMove[] = []
  nowMs: () => number = () => 0
  /** Waited for before a settle takes effect. */
  beforeSettle: () => Promise<void> = () => Promise.resolve()
  #revision = 0
  #inode = 100
  readonly #listeners = new Set<Parameters<AttachedNames['onDirty']>[0]>()

  // ---- what people do

  /** Takes over what lies outside, as a listing would. */
  mirror(described: ExternalDescription | undefined, key = described?.key ?? ''): void {
    if (this.rows.has(key)) return
    if (described)
      this.entries.set(key, this.#settledVersion(key, described, this.entries.get(key)?.inode ?? ++this.#inode))
    else this.entries.delete(key)
  }

  put(key: string, bytes: string | Uint8Array, options: PutOptions = {}): ObjectVersion {
    const body = Buffer.from(bytes)
    const version: ObjectVersion = {
      bucket: 'b',
      key,
      inode: ++this.#inode,
      versionId: undefined,
      size: options.size ?? body.length,
      mtimeMs: this.nowMs(),
      etag: options.etag ?? createHash('md5').update(body).digest('hex'),
      owner: 'owner',
      attributes: options.attributes ?? PLAIN_ATTRIBUTES,
      checksum: undefined,
      partsCount: undefined,
      body: options.body ?? { kind: 'inline', bytes: body },
      revision: this.#revision + 1,
      expiresMs: undefined,
    }
    this.#trace(key)
    this.entries.set(key, version)
    this.#tell(key)
    return version
  }

  change(key: string, attributes: ObjectAttributes): void {
    const version = this.entries.get(key)
    if (!version) throw new Error(`nothing at ${key}`)
    this.#trace(key)
    this.entries.set(key, { ...version, attributes, revision: this.#revision })
    this.#tell(key)
  }

  remove(key: string): void {
    if (!this.entries.has(key)) return
    this.#trace(key)
    this.entries.delete(key)
    this.#tell(key)
  }

  rename(from: string, to: string): void {
    const version = this.entries.get(from)
    if (!version) throw new Error(`nothing at ${from}`)
    this.#trace(from)
    this.#trace(to)
    this.entries.delete(from)
    this.entries.set(to, { ...version, key: to, revision: this.#revision })
    const { body, inode } = version
    if (body.kind === 'external') this.#need(body.external.key, inode)
    for (const { segment } of this.extents.get(inode) ?? []) {
      const source = this.segments.get(segment)
      if (source) this.#need(source.key, inode)
    }
    this.#tell(from, to)
  }

  /** What it shows, and where its bytes lie. */
  shown(): Record<string, string> {
    const shown: Record<string, string> = {}
    for (const [key, { body }] of [...this.entries].sort(([one], [other]) => (one < other ? -1 : 1))) {
      shown[key] =
        body.kind === 'inline'
          ? Buffer.from(body.bytes).toString()
          : body.kind === 'external'
            ? `@${body.external.key}`
            : 'content'
    }
    return shown
  }

  #need(key: string, inode: InodeId): void {
    const row = this.rows.get(key)
    if (row && !row.neededBy.includes(inode)) this.rows.set(key, { ...row, neededBy: [...row.neededBy, inode] })
  }

  #trace(key: string): void {
    const revision = ++this.#revision
    const row = this.rows.get(key)
    if (row) return void this.rows.set(key, { ...row, revision })
    const body = this.entries.get(key)?.body
    const base: Base =
      body?.kind === 'external' && body.external.key === key
        ? { kind: 'etag', etag: body.external.etag, size: body.external.size }
        : { kind: 'absent' }
    this.rows.set(key, { key, base, sinceMs: this.nowMs(), revision, neededBy: [], conflict: undefined })
  }

  #tell(...keys: string[]): void {
    for (const listener of this.#listeners) listener(keys.map((key) => ({ bucketId: BUCKET_ID, key })))
  }

  #settledVersion(key: string, outside: ExternalDescription, inode: InodeId): ObjectVersion {
    const { etag, size, attributes, modifiedMs, partsCount } = outside
    return {
      bucket: 'b',
      key,
      inode,
      versionId: undefined,
      size,
      mtimeMs: modifiedMs,
      etag,
      owner: 'owner',
      attributes,
      checksum: undefined,
      partsCount,
      body: { kind: 'external', external: { key, etag, size, isDescribed: true } },
      revision: ++this.#revision,
      expiresMs: undefined,
    }
  }

  // ---- the port

  dirtyKeys(_bucketId: number, after: string, limit: number): Promise<readonly DirtyKey[]> {
    const keys = [...this.rows.keys()]
      .filter((key) => key > after)
      .sort()
      .slice(0, limit)
    return Promise.resolve(keys.flatMap((key) => this.rows.get(key) ?? []))
  }

  dirtyState(_bucketId: number, key: string): Promise<DirtyState | undefined> {
    const row = this.rows.get(key)
    if (!row) return Promise.resolve(undefined)
    const dirty = { ...row, neededBy: row.neededBy.filter((other) => this.#needs(other, key)) }
    const version = this.entries.get(key)
    const inode = version?.inode ?? -1
    const state = { dirty, version, extents: this.extents.get(inode) ?? [], partSizes: this.partSizes.get(inode) ?? [] }
    return Promise.resolve(state)
  }

  onDirty(listener: Parameters<AttachedNames['onDirty']>[0]): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async settle({ key, revision, outside }: Parameters<AttachedNames['settle']>[0]): Promise<Commit<boolean>> {
    await this.beforeSettle()
    const row = this.rows.get(key)
    if (!row) return this.#commit(true)
    if (row.revision !== revision) {
      const base: Base = outside ? { kind: 'etag', etag: outside.etag, size: outside.size } : { kind: 'absent' }
      this.rows.set(key, { ...row, base })
      return this.#commit(false)
    }
    this.rows.delete(key)
    this.mirror(outside, key)
    return this.#commit(true)
  }

  setAside({ key, revision, as, outside }: Parameters<AttachedNames['setAside']>[0]): Promise<Commit<boolean>> {
    const [row, version] = [this.rows.get(key), this.entries.get(key)]
    if (row?.revision !== revision || !version) return Promise.resolve(this.#commit(false))
    this.#trace(as)
    this.entries.set(as, { ...version, key: as })
    this.rows.delete(key)
    this.entries.delete(key)
    this.mirror(outside, key)
    this.#tell(as)
    return Promise.resolve(this.#commit(true))
  }

  noteConflict({
    key,
    conflict,
    base,
    revision,
  }: Parameters<AttachedNames['noteConflict']>[0]): Promise<Commit<boolean>> {
    const row = this.rows.get(key)
    if (revision !== undefined && row?.revision !== revision) return Promise.resolve(this.#commit(false))
    if (row) this.rows.set(key, { ...row, conflict, base: base ?? row.base })
    if (!conflict) this.#tell(key)
    return Promise.resolve(this.#commit(row !== undefined))
  }

  noteTried({ key, tried }: Parameters<AttachedNames['noteTried']>[0]): Promise<Commit<boolean>> {
    const row = this.rows.get(key)
    if (row) this.rows.set(key, { ...row, tried: [...(row.tried ?? []), tried] })
    return Promise.resolve(this.#commit(row !== undefined))
  }

  arrived({ key, inode }: Parameters<AttachedNames['arrived']>[0]): Promise<Commit<boolean>> {
    const row = this.rows.get(key)
    if (row) this.rows.set(key, { ...row, neededBy: row.neededBy.filter((other) => other !== inode) })
    return Promise.resolve(this.#commit(row !== undefined))
  }

  relocate({ from, to }: Parameters<AttachedNames['relocate']>[0]): Promise<Commit<boolean>> {
    const { neededBy = [] } = this.rows.get(from.key) ?? {}
    const needing = neededBy.filter((inode) => this.#needs(inode, from.key))
    for (const [key, version] of this.entries) {
      const { body } = version
      if (body.kind !== 'external' || body.external.key !== from.key || body.external.etag !== from.etag) continue
      if (needing.includes(version.inode)) {
        this.entries.set(key, { ...version, body: { kind: 'external', external: { ...body.external, ...to } } })
      }
    }
    const base = { kind: 'etag', etag: to.etag, size: from.size } as const
    const row = { key: to.key, base, sinceMs: this.nowMs(), revision: ++this.#revision, neededBy: needing }
    this.rows.set(to.key, { ...row, conflict: undefined })
    this.#tell(to.key)
    return Promise.resolve(this.#commit(needing.length > 0))
  }

  #needs(inode: InodeId, key: string): boolean {
    const version = [...this.entries.values()].find((other) => other.inode === inode)
    if (version?.body.kind === 'external') return version.body.external.key === key
    const sources = version?.body.kind === 'content' ? (this.extents.get(inode) ?? []) : []
    return sources.some(({ segment }) => this.segments.get(segment)?.key === key)
  }

  moves(): Promise<readonly DirectoryMove[]> {
    return Promise.resolve([...this.pendingMoves])
  }

  stepMove(_bucketId: number, id: number): Promise<Commit<{ done: boolean; keys: number }>> {
    const at = this.pendingMoves.findIndex((move) => move.id === id)
    this.pendingMoves.splice(at, 1)
    return Promise.resolve(this.#commit({ done: true, keys: 1 }))
  }

  externalSegment(segment: SegmentId): Promise<{ bucketId: number; body: ExternalBody } | undefined> {
    const body = this.segments.get(segment)
    return Promise.resolve(body && { bucketId: BUCKET_ID, body })
  }

  /** A file of the mount that lies in an external object, all but what it was changed in. */
  segmentOf(body: ExternalBody): SegmentId {
    const segment = externalSegment(BUCKET_ID, body)
    this.segments.set(segment, body)
    return segment
  }

  placeOf(inode: InodeId): Promise<{ bucketId: number; bucket: string; key: string } | undefined> {
    for (const [key, version] of this.entries) {
      if (version.inode === inode) return Promise.resolve({ bucketId: BUCKET_ID, bucket: 'b', key })
    }
    return Promise.resolve(undefined)
  }

  revision(): number {
    return this.#revision
  }

  #commit<T>(value: T): Commit<T> {
    return { value, revision: ++this.#revision, durable: Promise.resolve() }
  }
}
