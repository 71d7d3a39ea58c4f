/**
 * A process with a namespace over etcd that renames directories as it is told, one line of JSON at a time, and answers each with a line. Most of its renames go by
 * names in directories, as a mount's do; some exchange two directories, and some go by keys, which makes directories on the way if those that were looked up have
 * moved since.
 */
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { systemClock } from '../../src/common/clock.ts'
import { isTidegateError } from '../../src/common/errors.ts'
import type { ByteString, InodeId } from '../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../src/common/limits.ts'
import { LmdbBackend } from '../../src/meta/lmdb/lmdb-backend.ts'
import { createNamespace, type Namespace } from '../../src/meta/namespace/namespace.ts'
import { createEtcdClient } from '../../src/meta/raft/client.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import type { EmbeddedStore } from '../../src/meta/stage/ports.ts'
import { Random } from '../model/random.ts'
import { faultsOfTree } from './tree-check.ts'

export interface RenamerOptions {
  readonly endpoints: readonly string[]
  readonly data: string
  readonly node: number
  readonly bucket: string
}

export type RenamerOrder =
  | { readonly kind: 'make'; readonly directories: number }
  | {
      readonly kind: 'rename'
      readonly seed: number
      readonly directories: readonly InodeId[]
      readonly renames: number
    }
  | { readonly kind: 'check'; readonly directories: readonly InodeId[] }

export interface RenamerAnswer {
  readonly made?: readonly InodeId[]
  readonly done?: number
  /** By the code of the refusal. */
  readonly refused?: Readonly<Record<string, number>>
  /** What is wrong with the tree, and how it looks. */
  readonly faults?: readonly string[]
  readonly tree?: string
}

const MADE = { mode: 0o755, uid: 0, gid: 0, owner: 'root' }
const AT_ONCE = 4
/** What a rename may be refused with when somebody else renames. */
const EXPECTED: readonly string[] = [
  'NoSuchKey',
  'InvalidArgument',
  'FileExists',
  'DirectoryNotEmpty',
  'StaleFile',
  'PreconditionFailed',
  'Unavailable',
  'SlowDown',
]

class Renamer {
  readonly #store: EmbeddedStore
  readonly #namespace: Namespace
  readonly #bucket: string

  constructor(store: EmbeddedStore, namespace: Namespace, bucket: string) {
    this.#store = store
    this.#namespace = namespace
    this.#bucket = bucket
  }

  async carryOut(order: RenamerOrder): Promise<RenamerAnswer> {
    switch (order.kind) {
      case 'make':
        return { made: await this.#make(order.directories) }
      case 'rename':
        return await this.#renameMany(order)
      case 'check':
        return await faultsOfTree(this.#store, order.directories)
    }
  }

  async #make(directories: number): Promise<InodeId[]> {
    const bucket = await this.#namespace.files.makeDirectory(0, this.#bucket as ByteString, MADE)
    const made: InodeId[] = []
    for (let index = 0; index < directories; index++) {
      const { value } = await this.#namespace.files.makeDirectory(bucket.value.inode, `d${index}` as ByteString, MADE)
      made.push(value.inode)
      await this.#namespace.files.makeFile(value.inode, 'file' as ByteString, { ...MADE, kind: 'file' })
    }
    return [bucket.value.inode, ...made]
  }

  async #renameMany({ seed, directories, renames }: Extract<RenamerOrder, { kind: 'rename' }>): Promise<RenamerAnswer> {
    const random = new Random(seed)
    const refused: Record<string, number> = {}
    let left = renames
    let done = 0
    const work = async (): Promise<void> => {
      while (left-- > 0) {
        try {
          await this.#rename(random, directories)
          done++
        } catch (error) {
          if (!isTidegateError(error) || !EXPECTED.includes(error.code)) throw error
          refused[error.code] = (refused[error.code] ?? 0) + 1
        }
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, work))
    return { done, refused }
  }

  async #rename(random: Random, directories: readonly InodeId[]): Promise<void> {
    const { files } = this.#namespace
    const [moved, target, other] = [
      random.below(directories.length - 1) + 1,
      random.below(directories.length),
      random.below(6),
    ]
    const [from, to] = await Promise.all([this.#placeOf(directories[moved]), this.#placeOf(directories[target])])
    if (from === undefined || to === undefined) return
    if (other === 0) {
      const request = { bucket: this.#bucket, from: from.key, to: `${to.key}${from.name}/`, replace: false }
      await this.#namespace.rename(request)
    } else if (other < 3 && target > 0) {
      await files.renameFile(from, to, { mode: 'exchange', keep: () => false })
    } else {
      const into = { parent: directories[target] ?? from.parent, name: from.name }
      await files.renameFile(from, into, { mode: 'replace', keep: () => false })
    }
  }

  async #placeOf(inode: InodeId | undefined): Promise<{ parent: InodeId; name: ByteString; key: string } | undefined> {
    if (inode === undefined) return undefined
    const { files } = this.#namespace
    const [found, parent] = await Promise.all([files.keyOf(inode), files.parentOf(inode)])
    const name = (found?.key.split('/').at(-2) ?? '') as ByteString
    return found && { parent, name, key: found.key }
  }
}

const { endpoints, data, node, bucket } = JSON.parse(process.argv[2] ?? '') as RenamerOptions
const etcd = createEtcdClient({ endpoints, clock: systemClock })
await etcd.start()
const replica = new LmdbBackend({ directory: join(data, 'meta') })
const store = createEtcdStore({ etcd, node, replica })
await store.start()
const namespace = createNamespace({ store, clock: systemClock, limits: DEFAULT_LIMITS, nodeNumber: node })
await namespace.join()
const renamer = new Renamer(store, namespace, bucket)
process.stdout.write('{}\n')
for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await renamer.carryOut(JSON.parse(line) as RenamerOrder))}\n`)
await store.drain()
await store.stop()
await etcd.stop()
