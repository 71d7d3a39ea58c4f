/** Where inodes lie in attached buckets, remembered: of files and directories, as the mount names them. */
import type { ByteString, InodeId } from '../common/ids.ts'
import type { Attached, AttachedBuckets } from './attached.ts'
import type { AttachedNames } from './ports.ts'
import { Recent } from './recent.ts'

export interface InodePlace {
  readonly attached: Attached
  /** A directory's ends in a slash, a bucket's root is ''. */
  readonly key: string
}

const PLACES_MAX = 65_536
/** The mount's root, in which buckets are names. */
const MOUNT_ROOT = 0
const DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export class InodePlaces {
  readonly #attached: AttachedBuckets
  readonly #names: Pick<AttachedNames, 'placeOf'>
  /** `elsewhere`: in a bucket that is not attached; so it stays, since nothing leaves its bucket and a bucket is attached when it is made. */
  readonly #known = new Recent<InodeId, { bucketId: number; key: string } | 'elsewhere'>(PLACES_MAX)
  #generation = 0

  constructor(parts: { attached: AttachedBuckets; names: Pick<AttachedNames, 'placeOf'> }) {
    this.#attached = parts.attached
    this.#names = parts.names
  }

  /** Undefined: it is gone, or its bucket is not attached. */
  async of(inode: InodeId): Promise<InodePlace | undefined> {
    if (this.#attached.isEmpty || inode === MOUNT_ROOT) return undefined
    const known = this.#known.get(inode) ?? (await this.#lookUp(inode))
    if (known === 'elsewhere') return undefined
    const attached = this.#attached.ofId(known.bucketId)
    return attached && { attached, key: known.key }
  }

  async #lookUp(inode: InodeId): Promise<{ bucketId: number; key: string } | 'elsewhere'> {
    const generation = this.#generation
    const place = (await this.#names.placeOf(inode)) ?? 'elsewhere'
    // Something was renamed meanwhile.
    if (generation === this.#generation) this.#known.set(inode, place)
    return place
  }

  /** Something was renamed: what lies below it lies elsewhere now. */
  forget(): void {
    this.#generation++
    this.#known.clear()
  }
}

/** Undefined for a name that is not UTF-8, which no key has. */
export function textOf(name: ByteString): string | undefined {
  try {
    return DECODER.decode(Buffer.from(name, 'latin1'))
  } catch {
    return undefined
  }
}
