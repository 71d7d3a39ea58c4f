/**
 * Random operations of the mount and of S3 against a plain tree in memory. What S3 does is told to the tree in its own terms: a
 * PUT makes the directories on its way, and a file in the place of what was there; a delete takes a name away. The tree does not
 * know of implicit directories, so S3 deletes here only what lies beside something that stays.
 */
import { describe, expect, test } from 'vitest'
import { isTidegateError } from '../../src/common/errors.ts'
import type { ByteString, InodeId } from '../../src/common/ids.ts'
import type { MemoryStoreOptions } from '../../src/meta/memory/memory-store.ts'
import type { Files } from '../../src/meta/namespace/files/files.ts'
import { OWNER, fixture, type Fixture } from '../unit/meta/namespace/fixture.ts'
import { checkNamespace } from './check-namespace.ts'
import { FileTree, type TreeDirectory, type TreeNode } from './file-tree.ts'
import { Random, testSeed } from './random.ts'

const SEED = testSeed()
const LONG_RUN_MS = 300_000
const NAMES = ['a', 'b', 'a-', 'a.', 'c', 'é'].map((name) => Buffer.from(name).toString('latin1') as ByteString)
const TREE_ENTRIES_MAX = 60

class Run {
  readonly random: Random
  readonly made: Fixture
  readonly files: Files
  readonly open = new Set<InodeId>()
  readonly tree: FileTree
  readonly versioned: boolean

  constructor(random: Random, made: Fixture, root: InodeId, versioned: boolean) {
    this.random = random
    this.made = made
    this.files = made.namespace.files
    this.tree = new FileTree(root)
    this.versioned = versioned
  }

  name(): ByteString {
    return this.random.pick(NAMES)
  }

  directory(): TreeDirectory {
    return this.random.pick(this.tree.directories())
  }

  /** Runs both; they must agree on the outcome. */
  async both<T>(model: () => void, call: Promise<T>): Promise<T | undefined> {
    let wanted: string | undefined
    try {
      model()
    } catch (error) {
      if (!(error instanceof Error)) throw error
      wanted = error.message
    }
    const value = await call.catch((error: unknown) => {
      if (!isTidegateError(error)) throw error
      expect(error.code, error.message).toBe(wanted)
      return undefined
    })
    if (value !== undefined) expect(wanted).toBeUndefined()
    return value
  }

  async makeFile(): Promise<void> {
    const parent = this.directory()
    const name = this.name()
    const owned = {
      mode: this.random.below(0o10000),
      uid: this.random.below(9),
      gid: this.random.below(9),
      owner: OWNER,
    }
    const kind = this.random.pick(['file', 'symlink', 'fifo'] as const)
    const node: TreeNode = {
      kind,
      inode: 0,
      links: 1,
      mode: owned.mode,
      uid: owned.uid,
      size: kind === 'symlink' ? 3 : 0,
    }
    const target = 'xyz' as ByteString
    const made = await this.both(
      () => this.tree.add(parent, name, node),
      this.files.makeFile(parent.inode, name, { ...owned, kind, target }),
    )
    if (made) node.inode = made.value.inode
  }

  async makeDirectory(): Promise<void> {
    const parent = this.directory()
    const name = this.name()
    const owned = { mode: 0o755, uid: 1, gid: 1, owner: OWNER }
    const node: TreeDirectory = { kind: 'directory', inode: 0, entries: new Map(), parent }
    const made = await this.both(
      () => this.tree.add(parent, name, node),
      this.files.makeDirectory(parent.inode, name, owned),
    )
    if (made) node.inode = made.value.inode
  }

  async link(): Promise<void> {
    const files = this.tree.files()
    if (files.length === 0) return
    const file = this.random.pick(files)
    const parent = this.directory()
    const name = this.name()
    const call = this.files.linkFile(file.inode, parent.inode, name)
    const model = (): void => this.tree.link(parent, name, file)
    if (this.versioned) await this.whereVersionsForbid(call, model)
    else await this.both(model, call)
  }

  async remove(): Promise<void> {
    const parent = this.directory()
    const name = this.name()
    const keep = this.random.chance(0.3)
    const file = parent.entries.get(name)
    const removed = await this.both(
      () => this.tree.remove(parent, name),
      this.files.removeFile(parent.inode, name, { keep, owner: OWNER }),
    )
    if (!removed || file?.kind === 'directory' || !file) return
    expect(removed.value.inode).toBe(file.inode)
    if (!this.versioned) expect(removed.value.gone).toBe(file.links === 0)
    if (removed.value.gone && keep) this.open.add(file.inode)
  }

  async drop(): Promise<void> {
    const known = new Set(await this.files.orphanedFiles(1000))
    if (!this.versioned) expect(known).toEqual(this.open)
    for (const inode of known) {
      expect((await this.files.fileNode(inode)).links).toBe(0)
      expect(await this.files.keyOf(inode)).toBeUndefined()
      await this.files.dropFile(inode)
      await expect(this.files.fileNode(inode)).rejects.toMatchObject({ code: 'StaleFile' })
    }
    this.open.clear()
  }

  async removeDirectory(): Promise<void> {
    const parent = this.directory()
    const name = this.name()
    await this.both(() => this.tree.removeDirectory(parent, name), this.files.removeDirectory(parent.inode, name))
  }

  async rename(): Promise<void> {
    const [from, to] = [this.directory(), this.directory()]
    const [fromName, toName] = [this.name(), this.name()]
    const mode = this.random.pick(['replace', 'replace', 'no-replace', 'exchange'] as const)
    const keep = this.random.chance(0.3)
    const replaced = to.entries.get(toName)
    const call = this.files.renameFile(
      { parent: from.inode, name: fromName },
      { parent: to.inode, name: toName },
      { mode, keep: (inode) => keep && inode === replaced?.inode },
    )
    if (this.versioned)
      return this.whereVersionsForbid(call, () => this.tree.rename({ from, fromName, to, toName, mode }))
    const done = await this.both(() => this.tree.rename({ from, fromName, to, toName, mode }), call)
    if (done?.value.replaced !== undefined) expect(done.value.replaced).toBe(replaced?.inode)
    if (done?.value.gone && replaced && replaced.kind !== 'directory' && keep) this.open.add(replaced.inode)
  }

  /** Versions below or under a name may forbid what the tree allows, never the other way round. */
  async whereVersionsForbid(call: Promise<unknown>, model: () => void): Promise<void> {
    const error: unknown = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    if (isTidegateError(error, 'DirectoryNotEmpty') || isTidegateError(error, 'InvalidRequest')) return
    await this.both(model, error === undefined ? Promise.resolve(true) : Promise.reject(error as Error))
  }

  async change(): Promise<void> {
    const nodes = [...this.tree.files()]
    if (nodes.length === 0) return
    const file = this.random.pick(nodes)
    file.mode = this.random.below(0o10000)
    const modified = { seconds: this.random.below(2_000_000_000) - 5, nanoseconds: this.random.below(1_000_000_000) }
    const changed = await this.files.changeFile(file.inode, { mode: file.mode, modified })
    expect(changed.value).toMatchObject({
      mode: file.mode,
      modified,
      links: this.versioned ? changed.value.links : file.links,
    })
  }

  async setAttribute(): Promise<void> {
    const files = this.tree.files()
    const inode = this.random.chance(0.3) || files.length === 0 ? this.directory().inode : this.random.pick(files).inode
    const name = this.random.pick(['user.a', 'user.b', 'user.c']) as ByteString
    if (this.random.chance(0.7)) {
      const value = Buffer.alloc(this.random.below(100), 7)
      await this.files.setFileAttribute(inode, name, value, 'set')
      expect(Buffer.from(await this.files.fileAttribute(inode, name))).toEqual(value)
      return
    }
    const had = (await this.files.fileAttributeNames(inode)).includes(name)
    const call = this.files.removeFileAttribute(inode, name)
    if (had) await call
    else await expect(call).rejects.toMatchObject({ code: 'NoSuchAttribute' })
  }

  /** S3: C27. */
  async put(): Promise<void> {
    const parent = this.directory()
    const name = this.name()
    const existing = parent.entries.get(name)
    if (existing?.kind === 'directory') return
    const size = this.random.below(30)
    const { inode } = await this.made.put('box', this.tree.keyOf(parent, name), { bytes: 'x'.repeat(size) })
    const mode = existing ? (existing.kind === 'file' ? existing.mode : 0o644) : 0o644
    this.tree.put(parent, name, { kind: 'file', inode, links: 1, mode, uid: existing?.uid ?? 0, size })
  }

  /** S3 deletes a file of a directory that the mount has changed, so that it stays. */
  async deleteObject(): Promise<void> {
    const parent = this.directory()
    const name = this.name()
    const existing = parent.entries.get(name)
    if (!existing || existing.kind === 'directory') return
    await this.made.remove('box', this.tree.keyOf(parent, name))
    this.tree.remove(parent, name)
  }

  async setVersioning(): Promise<void> {
    if (this.versioned) await this.made.namespace.setVersioning('box', this.random.pick(['enabled', 'suspended']))
  }

  async compare(): Promise<void> {
    for (const directory of this.tree.directories()) await this.compareDirectory(directory)
    await checkNamespace(this.made.store)
  }

  async compareDirectory(directory: TreeDirectory): Promise<void> {
    const found = new Map<string, TreeNode | TreeDirectory>()
    const limit = 1 + this.random.below(4)
    let after: ByteString | undefined
    for (let more = true; more;) {
      const page = await this.files.fileEntries(directory.inode, after, limit)
      more = page.more
      expect(page.entries.length).toBeLessThanOrEqual(limit)
      for (const { name, node } of page.entries) {
        expect(found.has(name)).toBe(false)
        expect(await this.files.findFile(directory.inode, name)).toEqual(node)
        const wanted = directory.entries.get(name)
        expect(wanted, name).toBeDefined()
        if (wanted) expect(node).toMatchObject(this.shown(wanted))
        if (wanted) found.set(name, wanted)
        after = (node.kind === 'directory' ? `${name}/` : name) as ByteString
        if (node.kind === 'directory') expect(await this.files.parentOf(node.inode)).toBe(directory.inode)
        if (node.kind === 'symlink') expect(await this.files.linkTarget(node.inode)).toBe('xyz')
      }
    }
    expect(found.size).toBe(directory.entries.size)
  }

  shown(node: TreeNode | TreeDirectory): object {
    if (node.kind === 'directory') return { kind: 'directory', inode: node.inode, links: 1 }
    const { kind, inode, links, mode, uid, size } = node
    return { kind, inode, mode, uid, size, ...(this.versioned ? {} : { links }) }
  }
}

const OPERATIONS: readonly (readonly [number, (run: Run) => Promise<void>])[] = [
  [20, (run) => (run.tree.size() < TREE_ENTRIES_MAX ? run.makeFile() : Promise.resolve())],
  [10, (run) => (run.tree.size() < TREE_ENTRIES_MAX ? run.makeDirectory() : Promise.resolve())],
  [12, (run) => run.link()],
  [18, (run) => run.remove()],
  [8, (run) => run.removeDirectory()],
  [20, (run) => run.rename()],
  [6, (run) => run.change()],
  [6, (run) => run.setAttribute()],
  [8, (run) => run.put()],
  [4, (run) => run.deleteObject()],
  [2, (run) => run.drop()],
  [3, (run) => run.setVersioning()],
  [2, (run) => run.made.reclaim().then(() => undefined)],
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

interface Options {
  readonly seed: number
  readonly operations: number
  readonly store?: MemoryStoreOptions
  readonly versioned?: boolean
}

async function runOperations({ seed, operations, store = {}, versioned = false }: Options): Promise<void> {
  const random = new Random(seed)
  for (let done = 0; done < operations;) {
    const made = await fixture(store)
    const { value } = await made.namespace.files.makeDirectory(0, 'box' as ByteString, {
      mode: 0o700,
      uid: 5,
      gid: 5,
      owner: OWNER,
    })
    if (versioned) await made.namespace.setVersioning('box', 'enabled')
    const run = new Run(random, made, value.inode, versioned)
    for (let i = 0; i < 300; i++, done++) {
      made.clock.ms += random.below(5)
      await pickOperation(random)(run)
      if (i % 25 === 0) await run.compare()
    }
    await run.compare()
    await run.drop()
    if (!versioned) await removeEverything(run)
    await made.stop()
  }
}

/** What `rm -r` does: nothing is left, not even the bucket. */
async function removeEverything(run: Run): Promise<void> {
  const { files, made } = run
  const clear = async (directory: InodeId): Promise<void> => {
    for (;;) {
      const { entries } = await files.fileEntries(directory, undefined, 3)
      if (entries.length === 0) return
      for (const { name, node } of entries) {
        if (node.kind !== 'directory') {
          await files.removeFile(directory, name, { keep: false, owner: OWNER })
          continue
        }
        await clear(node.inode)
        await files.removeDirectory(directory, name)
      }
    }
  }
  await clear(run.tree.root.inode)
  await files.removeDirectory(0, 'box' as ByteString)
  await made.reclaim()
  expect(await checkNamespace(made.store)).toEqual({
    inodes: 0,
    contents: 0,
    dropped: 0,
    parts: 0,
    uploads: 0,
    hidden: 0,
  })
}

describe(`random operations of the mount and of S3 against a tree (seed ${SEED})`, () => {
  test(
    'C10, C25-C28: names, links, renames, orphans',
    () => runOperations({ seed: SEED, operations: 4000 }),
    LONG_RUN_MS,
  )

  test(
    'C1, C2: the same with every transaction run twice, 128 operations at most',
    () => runOperations({ seed: SEED + 1, operations: 2000, store: { forceRetry: true, operationsMax: 128 } }),
    LONG_RUN_MS,
  )

  test(
    'in a bucket that keeps versions',
    () => runOperations({ seed: SEED + 2, operations: 3000, versioned: true }),
    LONG_RUN_MS,
  )
})
