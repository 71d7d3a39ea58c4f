/** Random operations that fit what the model holds: most succeed, some must be refused. */
import type { Random } from '../../../model/random.ts'
import type { MountModel } from './model.ts'
import type { OpenFlag, Operation } from './operations.ts'

const NAMES = ['a', 'b', 'c', 'a-', 'a.', 'é', '\u{1f600}\uff61']
const ATTRIBUTES = ['user.a', 'user.b', 'user.é']
const HANDLES_MAX = 6
const MAPPINGS_MAX = 2
const ENTRIES_MAX = 40
const DEPTH_MAX = 3
const KIB = 1024
/** Bounds of offsets and lengths, the small ones chosen more often: within an inline body, a few pages, over many blocks. */
const SIZES = [200, 5000, 20 * KIB, 20 * KIB, 150 * KIB, 2048 * KIB]
const LENGTHS = [16, 4096, 10_000, 10_000, 70_000, 300_000]

type Make = (generator: Generator) => Operation | undefined

export class Generator {
  readonly random: Random
  readonly model: MountModel
  readonly #refused: ReadonlySet<Operation['do']>
  #next = 0

  constructor(
    random: Random,
    model: MountModel,
    { mayDropCaches, mayLink }: { readonly mayDropCaches: boolean; readonly mayLink: boolean },
  ) {
    this.random = random
    this.model = model
    this.#refused = new Set([...(mayDropCaches ? [] : ['dropCaches' as const]), ...(mayLink ? [] : ['link' as const])])
  }

  operation(): Operation {
    for (;;) {
      const operation = this.#pick()(this)
      if (operation && !this.#refused.has(operation.do)) return operation
    }
  }

  #pick(): Make {
    let at = this.random.below(WEIGHTS)
    for (const [weight, make] of MAKERS) {
      if (at < weight) return make
      at -= weight
    }
    throw new Error('weights add up')
  }

  number(): number {
    return this.#next++
  }

  /** A directory that is there, and a name that may be. */
  newPath(): string {
    const { path } = this.random.pick(this.model.tree.directories())
    return path + this.random.pick(NAMES)
  }

  path(): string {
    const leaves = this.model.tree.leaves()
    if (leaves.length === 0 || this.random.chance(0.3)) return this.newPath()
    return this.random.pick(leaves).path
  }

  /** A path of something that is there: an attribute's, a status's. */
  anyPath(): string {
    const { path } = this.random.pick(this.model.tree.directories())
    return path !== '' && this.random.chance(0.4) ? path.slice(0, -1) : this.path()
  }

  handle(): number | undefined {
    const open = [...this.model.handles.keys()]
    return open.length === 0 ? undefined : this.random.pick(open)
  }

  sizeOf(handle: number): number {
    return this.model.handles.get(handle)?.file.size ?? 0
  }

  /** Often within the file or at its end. */
  offset(size: number): number {
    if (this.random.chance(0.2)) return size
    if (size > 0 && this.random.chance(0.6)) return this.#aligned(this.random.below(size))
    return this.#aligned(this.random.below(this.random.pick(SIZES)))
  }

  length(): number {
    return 1 + this.random.below(this.random.pick(LENGTHS))
  }

  data(length = this.length()): string {
    const bytes = Buffer.alloc(length)
    for (let at = 0; at < length; at++) bytes[at] = 1 + this.random.below(255)
    return bytes.toString('base64')
  }

  #aligned(offset: number): number {
    return this.random.chance(0.4) ? offset - (offset % 4096) : offset
  }

  entries(): number {
    return this.model.tree.directories().reduce((sum, { directory }) => sum + directory.entries.size, 0)
  }
}

/** Where a directory is meant, files and links to files would be read by open(2), which the model does not follow. */
function opens(generator: Generator): Operation | undefined {
  const { random, model } = generator
  if (model.handles.size >= HANDLES_MAX) return undefined
  const path = generator.path()
  const access = random.pick(['RDONLY', 'RDWR', 'RDWR', 'RDWR', 'WRONLY'] as const)
  const flags: OpenFlag[] = [access]
  if (random.chance(0.7) && generator.entries() < ENTRIES_MAX) flags.push('CREAT')
  if (flags.includes('CREAT') && random.chance(0.1)) flags.push('EXCL')
  if (access !== 'RDONLY' && random.chance(0.15)) flags.push('TRUNC')
  if (access !== 'RDONLY' && random.chance(0.25)) flags.push('APPEND')
  return isDirectory(generator, path) && access === 'RDONLY'
    ? undefined
    : { do: 'open', path, flags, handle: generator.number() }
}

function isDirectory({ model }: Generator, path: string): boolean {
  try {
    return model.tree.find(path, true).kind === 'directory'
  } catch {
    return false
  }
}

function onHandle(make: (handle: number, generator: Generator, size: number) => Operation | undefined): Make {
  return (generator) => {
    const handle = generator.handle()
    return handle === undefined ? undefined : make(handle, generator, generator.sizeOf(handle))
  }
}

function ranged(name: 'read' | 'punch'): Make {
  return onHandle((handle, generator, size) => ({
    do: name,
    handle,
    offset: generator.offset(size),
    length: generator.length(),
  }))
}

/** What is written by a mapping lies in the kernel until it is synced, and Linux does not ask for that before it asks FUSE for holes. */
function seeks(handle: number, generator: Generator, size: number): Operation | undefined {
  const { model, random } = generator
  const file = model.handles.get(handle)?.file
  if ([...model.mappings.values()].some((mapping) => mapping.file === file)) return undefined
  return { do: 'seek', handle, offset: generator.offset(size), what: random.pick(['data', 'hole'] as const) }
}

function maps(generator: Generator): Operation | undefined {
  const { model, random } = generator
  const fit = [...model.handles].filter(
    ([, { read, write, append, file }]) => read && write && !append && file.size > 0,
  )
  if (fit.length === 0 || model.mappings.size >= MAPPINGS_MAX) return undefined
  const [handle, { file }] = random.pick(fit)
  return { do: 'map', handle, mapping: generator.number(), length: file.size }
}

/** Within the file: what lies behind its end cannot be touched. */
function mapped(make: (mapping: number, offset: number, length: number, generator: Generator) => Operation): Make {
  return (generator) => {
    const { model, random } = generator
    const fit = [...model.mappings].filter(([, { file }]) => file.size > 0)
    if (fit.length === 0) return undefined
    const [mapping, { file, length }] = random.pick(fit)
    const end = Math.min(length, file.size)
    const offset = random.below(end)
    return make(mapping, offset, Math.min(end - offset, generator.length()), generator)
  }
}

function onMapping(name: 'mapSync' | 'unmap'): Make {
  return ({ model, random }) =>
    model.mappings.size === 0 ? undefined : { do: name, mapping: random.pick([...model.mappings.keys()]) }
}

/** At most this deep, so that cycles of renames have something to do. */
function makesDirectory(generator: Generator): Operation | undefined {
  const path = generator.newPath()
  if (path.split('/').length > DEPTH_MAX || generator.entries() >= ENTRIES_MAX) return undefined
  return { do: 'makeDirectory', path }
}

function symlinks(generator: Generator): Operation | undefined {
  if (generator.entries() >= ENTRIES_MAX) return undefined
  const { random } = generator
  const target = random.chance(0.7) ? random.pick(NAMES) : `${random.pick(NAMES)}/${random.pick(NAMES)}`
  return { do: 'symlink', path: generator.newPath(), target }
}

function renames(generator: Generator): Operation {
  const { random } = generator
  const mode = random.pick(['replace', 'replace', 'replace', 'no-replace', 'exchange'] as const)
  const to = random.chance(0.5) ? generator.anyPath() : generator.newPath()
  return { do: 'rename', path: generator.anyPath(), to, mode }
}

const MAKERS: readonly (readonly [number, Make])[] = [
  [50, opens],
  [30, onHandle((handle) => ({ do: 'close', handle }))],
  [60, ranged('read')],
  [
    80,
    onHandle((handle, generator, size) => ({
      do: 'write',
      handle,
      offset: generator.offset(size),
      data: generator.data(),
    })),
  ],
  [30, onHandle((handle, generator) => ({ do: 'append', handle, data: generator.data() }))],
  [20, onHandle((handle, generator, size) => ({ do: 'truncate', handle, size: generator.offset(size) }))],
  [8, (generator) => ({ do: 'truncate', path: generator.path(), size: generator.offset(5000) })],
  [20, ranged('punch')],
  [
    5,
    onHandle((handle, generator, size) => ({
      do: 'allocate',
      handle,
      offset: generator.offset(size),
      length: generator.length(),
    })),
  ],
  [
    20,
    onHandle((handle, generator, size) => ({
      do: 'copy',
      handle,
      offset: generator.offset(size),
      target: generator.handle() ?? handle,
      targetOffset: generator.offset(size),
      length: generator.length(),
    })),
  ],
  [15, onHandle(seeks)],
  [20, onHandle((handle) => ({ do: 'sync', handle }))],
  [15, onHandle((handle) => ({ do: 'status', handle }))],
  [8, maps],
  [20, mapped((mapping, offset, length) => ({ do: 'mapRead', mapping, offset, length }))],
  [
    25,
    mapped((mapping, offset, length, generator) => ({
      do: 'mapWrite',
      mapping,
      offset,
      data: generator.data(length),
    })),
  ],
  [6, onMapping('mapSync')],
  [6, onMapping('unmap')],
  [15, makesDirectory],
  [8, (generator) => ({ do: 'removeDirectory', path: generator.anyPath() })],
  [20, (generator) => ({ do: 'unlink', path: generator.anyPath() })],
  [15, (generator) => ({ do: 'link', path: generator.anyPath(), to: generator.newPath() })],
  [8, symlinks],
  [6, (generator) => ({ do: 'readLink', path: generator.anyPath() })],
  [40, renames],
  [15, (generator) => ({ do: 'list', path: generator.random.chance(0.3) ? '.' : generator.anyPath() })],
  [30, (generator) => ({ do: 'status', path: generator.anyPath() })],
  [
    10,
    (generator) => ({
      do: 'setAttribute',
      path: generator.anyPath(),
      name: generator.random.pick(ATTRIBUTES),
      data: generator.data(1 + generator.random.below(300)),
      mode: generator.random.pick(['set', 'set', 'create', 'replace'] as const),
    }),
  ],
  [8, (generator) => ({ do: 'attribute', path: generator.anyPath(), name: generator.random.pick(ATTRIBUTES) })],
  [4, (generator) => ({ do: 'removeAttribute', path: generator.anyPath(), name: generator.random.pick(ATTRIBUTES) })],
  [4, (generator) => ({ do: 'attributes', path: generator.anyPath() })],
  [15, (generator) => ({ do: 'publish', path: generator.path() })],
  [1, () => ({ do: 'dropCaches' })],
]
const WEIGHTS = MAKERS.reduce((sum, [weight]) => sum + weight, 0)
