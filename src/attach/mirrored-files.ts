/**
 * The mount's metadata with the external buckets behind it, as mirrored-metadata.ts is the store's. Names in a directory are looked for one by one
 * (freshness.ts, `ensureName`), and a directory is listed when somebody lists it, removes it or renames it.
 *
 * What is about to be changed is first described, since all of an object's attributes go out with any change of it: content type and user metadata
 * that a listing did not tell would be lost. It is not made fresh then: what was changed outside meanwhile is found when ours is carried out, and the
 * bucket's policy decides. Were the mirror told first, the file would be another one, and what was written to the old one would be gone.
 */
import { isTidegateError } from '../common/errors.ts'
import type { FileExtents } from '../common/file-contents.ts'
import type { FileNode } from '../common/file-model.ts'
import { utf8Text, type ByteString, type InodeId } from '../common/ids.ts'
import type { MetadataFiles } from '../store/file-ports.ts'
import type { MetadataObjects } from '../store/ports.ts'
import type { Attached, AttachedBuckets } from './attached.ts'
import type { ExternalSegments } from './external-segments.ts'
import type { Freshness } from './freshness.ts'
import { InodePlaces, textOf, type InodePlace } from './inode-places.ts'
import type { AttachedNames } from './ports.ts'

export interface MirroredFilesParts {
  readonly attached: AttachedBuckets
  readonly freshness: Freshness
  readonly segments: ExternalSegments
  readonly names: Pick<AttachedNames, 'placeOf'>
  /** The namespace itself. */
  readonly objects: Pick<MetadataObjects, 'lookup'>
}

const SEEN = { described: false } as const

export function mirroredFiles(files: MetadataFiles, parts: MirroredFilesParts): MetadataFiles {
  const mirror = new MirroredFiles(files, { ...parts, places: new InodePlaces(parts) })
  return { ...files, ...ofNames(files, mirror), ...ofInodes(files, mirror), ...ofKeys(files, mirror) }
}

type Some<Method extends keyof MetadataFiles> = Pick<MetadataFiles, Method>

function ofNames(
  files: MetadataFiles,
  mirror: MirroredFiles,
): Some<'findFile' | 'makeFile' | 'makeDirectory' | 'linkFile' | 'removeFile' | 'removeDirectory' | 'renameFile'> {
  return {
    findFile: async (parent, name) => {
      await mirror.ensureName(parent, name)
      return await files.findFile(parent, name)
    },
    makeFile: async (parent, name, made) => {
      await mirror.ensureName(parent, name)
      return await files.makeFile(parent, name, made)
    },
    makeDirectory: async (parent, name, made) => {
      await mirror.ensureName(parent, name)
      return await files.makeDirectory(parent, name, made)
    },
    linkFile: async (inode, parent, name) => {
      await mirror.ensureName(parent, name)
      return await files.linkFile(inode, parent, name)
    },
    removeFile: async (parent, name, options) => {
      await mirror.ensureName(parent, name)
      return await files.removeFile(parent, name, options)
    },
    removeDirectory: async (parent, name) => {
      await mirror.ensureEntry(parent, name)
      return await files.removeDirectory(parent, name)
    },
    renameFile: async (from, to, options) => {
      await mirror.ensureRename(from, to, options.mode)
      try {
        return await files.renameFile(from, to, options)
      } finally {
        mirror.renamed()
      }
    },
  }
}

function ofInodes(
  files: MetadataFiles,
  mirror: MirroredFiles,
): Some<
  | 'fileNode'
  | 'fileEntries'
  | 'changeFile'
  | 'publishFile'
  | 'cloneRange'
  | 'setFileAttribute'
  | 'removeFileAttribute'
  | 'fileExtents'
> {
  return {
    fileNode: async (inode) => {
      await mirror.ensureInode(inode)
      return await files.fileNode(inode)
    },
    fileEntries: (directory, after, limit) => mirror.entries(directory, after, limit),
    changeFile: async (inode, changes) => {
      await mirror.describe(inode)
      return await files.changeFile(inode, changes)
    },
    publishFile: async (request) => {
      await mirror.describe(request.inode)
      return await files.publishFile(request)
    },
    cloneRange: async (request) => {
      await mirror.describe(request.target.inode)
      return await files.cloneRange(request)
    },
    setFileAttribute: async (inode, name, value, mode) => {
      await mirror.describe(inode)
      return await files.setFileAttribute(inode, name, value, mode)
    },
    removeFileAttribute: async (inode, name) => {
      await mirror.describe(inode)
      return await files.removeFileAttribute(inode, name)
    },
    fileExtents: async (inode, offset, length) => {
      const extents = await files.fileExtents(inode, offset, length)
      mirror.learn(extents)
      return extents
    },
  }
}

function ofKeys(files: MetadataFiles, mirror: MirroredFiles): Some<'findKey' | 'keyEntries'> {
  return {
    findKey: async (bucket, key) => {
      await mirror.ensureKey(bucket, key)
      return await files.findKey(bucket, key)
    },
    keyEntries: (bucket, after, limit) => mirror.keys(bucket, after, limit),
  }
}

interface Name {
  readonly parent: InodeId
  readonly name: ByteString
}

type EntryPage = Awaited<ReturnType<MetadataFiles['fileEntries']>>

class MirroredFiles {
  readonly #files: MetadataFiles
  readonly #parts: MirroredFilesParts & { readonly places: InodePlaces }

  constructor(files: MetadataFiles, parts: MirroredFilesParts & { readonly places: InodePlaces }) {
    this.#files = files
    this.#parts = parts
  }

  /** Where the parent lies, if that is in an attached bucket and the name can be there. */
  async ensureName(parent: InodeId, name: ByteString): Promise<InodePlace | undefined> {
    const place = await this.#parts.places.of(parent)
    const text = textOf(name)
    if (!place || text === undefined || text === '') return undefined
    await this.#parts.freshness.ensureName(place.attached, place.key, text)
    return place
  }

  /** A file may have been changed outside. */
  async ensureInode(inode: InodeId): Promise<void> {
    const place = await this.#parts.places.of(inode)
    if (!place || isDirectory(place)) return
    await this.#parts.freshness.ensureKey(place.attached, place.key, SEEN)
  }

  async ensureKey(bucket: string, key: ByteString): Promise<void> {
    const attached = this.#attachedAs(bucket)
    const text = attached && textOf(key)
    if (attached && text !== undefined) await this.#parts.freshness.ensureKey(attached, text, SEEN)
  }

  #attachedAs(bucket: string): Attached | undefined {
    const { attached } = this.#parts
    return attached.isEmpty ? undefined : attached.of(bucket)
  }

  learn({ external }: FileExtents): void {
    if (external) this.#parts.segments.learn(external.bucketId, external.body)
  }

  renamed(): void {
    if (!this.#parts.attached.isEmpty) this.#parts.places.forget()
  }

  async entries(directory: InodeId, after: ByteString | undefined, limit: number): Promise<EntryPage> {
    const place = await this.#parts.places.of(directory)
    if (!place) return await this.#files.fileEntries(directory, after, limit)
    return await this.#entriesAt(place, { directory, after, limit })
  }

  async #entriesAt(
    { attached, key }: InodePlace,
    page: { readonly directory: InodeId; readonly after: ByteString | undefined; readonly limit: number },
  ): Promise<EntryPage> {
    const { directory, after, limit } = page
    const from = after === undefined ? '' : key + utf8Text(after)
    return await this.#parts.freshness.ensureListed(
      attached,
      { prefix: key, after: from, delimiter: '/' },
      {
        page: () => this.#files.fileEntries(directory, after, limit),
        reach: ({ entries, more }) => {
          const last = entries.at(-1)
          if (!more || !last) return undefined
          return key + utf8Text(last.name) + (last.node.kind === 'directory' ? '/' : '')
        },
      },
    )
  }

  async keys(bucket: string, after: ByteString | undefined, limit: number): Promise<EntryPage> {
    const attached = this.#attachedAs(bucket)
    if (!attached) return await this.#files.keyEntries(bucket, after, limit)
    return await this.#parts.freshness.ensureListed(
      attached,
      { prefix: '', after: after === undefined ? '' : utf8Text(after), delimiter: '' },
      {
        page: () => this.#files.keyEntries(bucket, after, limit),
        reach: ({ entries, more }) => {
          const last = entries.at(-1)
          return more && last ? utf8Text(last.name) : undefined
        },
      },
    )
  }

  /** The name, and whether anything lies in it if it is a directory. */
  async ensureEntry(parent: InodeId, name: ByteString): Promise<void> {
    const place = await this.ensureName(parent, name)
    const node = place && (await this.#find(parent, name))
    if (!place || node?.kind !== 'directory') return
    const within = { ...place, key: `${place.key}${utf8Text(name)}/` }
    await this.#entriesAt(within, { directory: node.inode, after: undefined, limit: 1 })
  }

  /** A directory that is renamed takes all below it along, so all of that must be known. */
  async ensureRename(from: Name, to: Name, mode: 'replace' | 'no-replace' | 'exchange'): Promise<void> {
    await Promise.all([
      this.#ensureMoved(from),
      mode === 'exchange' ? this.#ensureMoved(to) : this.ensureEntry(to.parent, to.name),
    ])
  }

  async #ensureMoved({ parent, name }: Name): Promise<void> {
    const place = await this.ensureName(parent, name)
    const node = place && (await this.#find(parent, name))
    if (!place || !node) return
    if (node.kind === 'directory') {
      await this.#parts.freshness.ensureWhole(place.attached, `${place.key}${utf8Text(name)}/`)
    } else await this.describe(node.inode)
  }

  async #find(parent: InodeId, name: ByteString): Promise<FileNode | undefined> {
    return await this.#files.findFile(parent, name).catch((error: unknown) => {
      if (isTidegateError(error, 'NoSuchKey')) return undefined
      throw error
    })
  }

  /** What the listing did not say of the object that a file is. */
  async describe(inode: InodeId): Promise<void> {
    const { places, objects, freshness } = this.#parts
    const place = await places.of(inode)
    if (!place || isDirectory(place)) return
    const version = await objects.lookup(place.attached.record.bucket, place.key).catch((error: unknown) => {
      if (isTidegateError(error, 'NoSuchKey') || isTidegateError(error, 'NoSuchBucket')) return undefined
      throw error
    })
    // Another one by now: nobody reads what is written to this one.
    if (version?.inode !== inode) return
    const { body } = version
    if (body.kind === 'external' && !body.external.isDescribed) await freshness.describe(place.attached, body.external)
  }
}

function isDirectory({ key }: InodePlace): boolean {
  return key === '' || key.endsWith('/')
}
