/** What `persisted` means in an attached bucket: the external bucket has it (C17). Elsewhere nothing changes. */
import type { InodeId, Revision } from '../common/ids.ts'
import type { AttachedBuckets } from './attached.ts'

/** As the store asks for it (store/byte-ports.ts). */
interface NamesPersisting {
  named(published: PublishedName): Promise<void>
  covered(revision: Revision, made: readonly PublishedName[]): Promise<void>
}

interface PublishedName {
  readonly bucket: string
  readonly key: string
  readonly inode: InodeId
  readonly revision: Revision
}

export interface WritingBack {
  /**
   * Resolves when what the key named at that revision, or something newer, lies in the external bucket. @throws Unavailable when it takes too long,
   * PreconditionFailed when it is refused as a conflict
   */
  written(bucketId: number, key: string, revision: Revision): Promise<void>
}

export function attachedPersisting<P extends NamesPersisting>(
  persisting: P,
  { attached, writeBack }: { readonly attached: AttachedBuckets; readonly writeBack: WritingBack },
): P {
  const written = async ({ bucket, key, revision }: PublishedName): Promise<boolean> => {
    const found = attached.isEmpty ? undefined : attached.of(bucket)
    if (!found) return false
    await writeBack.written(found.record.bucketId, key, revision)
    return true
  }
  return {
    ...persisting,
    named: async (published) => {
      if (!(await written(published))) await persisting.named(published)
    },
    covered: async (revision, made) => {
      // All of one bucket. What the commit deleted is no more waited for than a delete alone.
      const isWritten = await Promise.all(made.map(written))
      if (!isWritten.some(Boolean)) await persisting.covered(revision, made)
    },
  }
}
