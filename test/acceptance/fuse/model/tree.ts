/**
 * The file system that the mount is compared with: maps of names and arrays of bytes. Paths (without `.` and `..`) are walked and refused in the order in
 * which Linux does it, for a caller who may do everything. Refusals are errors whose message is the errno.
 */
const SYMLINKS_MAX = 40

export class ModelFile {
  readonly kind = 'file'
  links = 1
  readonly attributes = new Map<string, string>()
  #bytes = Buffer.alloc(0)

  get size(): number {
    return this.#bytes.length
  }

  /** Clipped to the size. */
  slice(offset: number, length: number): Buffer {
    return this.#bytes.subarray(offset, offset + length)
  }

  write(offset: number, data: Uint8Array): void {
    if (data.length === 0) return
    this.resize(Math.max(this.size, offset + data.length))
    this.#bytes.set(data, offset)
  }

  resize(size: number): void {
    if (size === this.size) return
    const resized = Buffer.alloc(size)
    this.#bytes.copy(resized, 0, 0, Math.min(size, this.size))
    this.#bytes = resized
  }

  /** What lies within the size becomes zeros. */
  zero(offset: number, length: number): void {
    this.#bytes.subarray(offset, offset + length).fill(0)
  }
}

export class ModelSymlink {
  readonly kind = 'symlink'
  links = 1
  readonly attributes = new Map<string, string>()
  readonly target: string

  constructor(target: string) {
    this.target = target
  }
}

export class ModelDirectory {
  readonly kind = 'directory'
  readonly entries = new Map<string, ModelNode>()
  readonly attributes = new Map<string, string>()
  parent: ModelDirectory | undefined

  constructor(parent: ModelDirectory | undefined) {
    this.parent = parent
  }
}

export type ModelNode = ModelFile | ModelSymlink | ModelDirectory

/** Where a path ends: a name in a directory, and what has it. */
export interface Place {
  readonly parent: ModelDirectory
  readonly name: string
  readonly node: ModelNode | undefined
}

interface Walk {
  /** Whether a symbolic link at the end is followed; those on the way always are. */
  readonly follow: boolean
  /** One for the whole walk. */
  readonly budget: { symlinks: number }
}

export function refuse(errno: string): never {
  throw new Error(errno)
}

export class ModelTree {
  readonly root = new ModelDirectory(undefined)

  /** The last name may be absent. */
  walk(path: string, follow: boolean): Place {
    return this.#walk(this.root, path, { follow, budget: { symlinks: SYMLINKS_MAX } })
  }

  /** What the path names. @throws ENOENT */
  find(path: string, follow: boolean): ModelNode {
    return this.walk(path, follow).node ?? refuse('ENOENT')
  }

  #walk(start: ModelDirectory, path: string, how: Walk): Place {
    const names = path.split('/')
    const last = names.pop() ?? ''
    let at = start
    for (const name of names) at = this.#step(at, name, how)
    const place = { parent: at, name: last, node: at.entries.get(last) }
    return how.follow && place.node?.kind === 'symlink' ? this.#followed(at, place.node, how) : place
  }

  #step(directory: ModelDirectory, name: string, how: Walk): ModelDirectory {
    let node = directory.entries.get(name)
    if (node?.kind === 'symlink') node = this.#followed(directory, node, how).node
    if (!node) refuse('ENOENT')
    return node.kind === 'directory' ? node : refuse('ENOTDIR')
  }

  #followed(directory: ModelDirectory, { target }: ModelSymlink, { budget }: Walk): Place {
    if (budget.symlinks-- <= 0) refuse('ELOOP')
    return this.#walk(directory, target, { follow: true, budget })
  }

  /** The root first. */
  directories(): { readonly path: string; readonly directory: ModelDirectory }[] {
    const found = [{ path: '', directory: this.root }]
    for (const { path, directory } of found) {
      for (const [name, node] of directory.entries) {
        if (node.kind === 'directory') found.push({ path: `${path}${name}/`, directory: node })
      }
    }
    return found
  }

  /** Every name but the directories', as paths. */
  leaves(): { readonly path: string; readonly node: ModelFile | ModelSymlink }[] {
    return this.directories().flatMap(({ path, directory }) =>
      [...directory.entries].flatMap(([name, node]) =>
        node.kind === 'directory' ? [] : [{ path: `${path}${name}`, node }],
      ),
    )
  }
}
