/**
 * Builds the native addons, where that has not been done: at the end of `npm ci` in a checkout (build-addons.ts), and else when one is first
 * wanted (`fuse` at the first mount, `checksums` at the first start of a disk level). Each is a little C, so it is one call of the C compiler; why
 * there is no node-gyp stands in docs/decisions/0011-fuse-channel.md.
 *
 * The file's name holds all that it depends on (the sources' hash, Node's ABI, platform, architecture), so a stale one is
 * never loaded. It is made under another name and renamed, so processes that build at once do not disturb each other.
 *
 * What cannot be built is "not available", with the reason in one line. It never fails an installation or a start.
 */
import { execFile } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { existsSync, globSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import { promisify } from 'node:util'
import { whyNotCompiled, type NeededHeader } from './compiler-errors.ts'

const COMPILE_TIMEOUT_MS = 60_000
const HEADERS = ['node_api.h', 'uv.h'] as const

interface AddonRecipe {
  /** What the built file is called. */
  readonly built: string
  readonly flags: readonly string[]
  /** A header that neither Node nor the C library brings. */
  readonly needs?: NeededHeader
}

/** By folders below native/. */
const ADDONS = {
  fuse: { built: 'channel', flags: [] },
  checksums: { built: 'crc32', flags: [] },
  fabric: {
    built: 'fabric',
    // Its threads may run until the process ends, also when the environment that loaded it is gone.
    flags: ['-pthread', '-ldl', '-Wl,-z,nodelete'],
    needs: { header: 'rdma/fabric.h', debian: 'libfabric-dev' },
  },
} as const satisfies Record<string, AddonRecipe>

export type AddonName = keyof typeof ADDONS

export const ADDON_NAMES: readonly AddonName[] = Object.keys(ADDONS) as AddonName[]

export type BuiltAddon =
  | { readonly path: string; readonly reason?: undefined }
  | { readonly path?: undefined; readonly reason: string }

/** Never rejects. */
export async function buildAddon(name: AddonName): Promise<BuiltAddon> {
  try {
    const place = placeOf(name)
    if (place.path === undefined || existsSync(place.path)) return place
    const headers = headersDirectory(place.root)
    if (headers === undefined) {
      return { reason: 'no headers of Node found (node_api.h and uv.h; Debian: apt install libnode-dev)' }
    }
    return await compile(place, headers, ADDONS[name])
  } catch (error) {
    // A source that may not be read, say, or a running Node whose file an upgrade has taken away.
    return { reason: `native/${name} cannot be built: ${error instanceof Error ? error.message : String(error)}` }
  }
}

/** Where it lies, if it has been built. */
export function findAddon(name: AddonName): string | undefined {
  const { path } = placeOf(name)
  return path !== undefined && existsSync(path) ? path : undefined
}

interface AddonPlace {
  readonly root: string
  readonly folder: string
  readonly path: string
  readonly reason?: undefined
}

/** Where it lies or is to lie. */
function placeOf(name: AddonName): AddonPlace | { readonly path?: undefined; readonly reason: string } {
  if (process.platform !== 'linux') return { reason: `native addons are for Linux; this is ${process.platform}` }
  const folder = join('native', name)
  const root = packageRoot(folder)
  if (root === undefined) return { reason: `${folder} is not in this installation` }
  return { root, folder, path: join(root, folder, 'build', builtName(name, join(root, folder))) }
}

function builtName(name: AddonName, directory: string): string {
  const hash = createHash('sha256')
  for (const source of sourcesIn(directory, ['.c', '.h'])) hash.update(readFileSync(source))
  const version = hash.digest('hex').slice(0, 12)
  return `${ADDONS[name].built}-${process.platform}-${process.arch}-abi${process.versions.modules}-${version}.node`
}

/** In order. Not by a pattern: each thread that takes an addon comes by here, and Node's matcher takes it 50 ms to load. */
function sourcesIn(directory: string, endings: readonly string[]): string[] {
  const names = readdirSync(directory).filter((name) => endings.includes(extname(name)))
  return names.toSorted().map((name) => join(directory, name))
}

async function compile(place: AddonPlace, headers: string, { flags, needs }: AddonRecipe): Promise<BuiltAddon> {
  const { root, folder, path } = place
  const sources = sourcesIn(join(root, folder), ['.c'])
  const compiler = process.env['CC'] ?? 'cc'
  const draft = `${path}.${randomUUID()}`
  try {
    await mkdir(dirname(path), { recursive: true })
    await promisify(execFile)(
      compiler,
      [
        '-std=gnu11',
        '-O2',
        '-Wall',
        '-Wextra',
        '-fPIC',
        '-shared',
        '-fvisibility=hidden',
        `-I${headers}`,
        '-o',
        draft,
        ...sources,
        ...flags,
      ],
      // In C, since what the compiler says is read.
      { timeout: COMPILE_TIMEOUT_MS, killSignal: 'SIGKILL', env: { ...process.env, LC_ALL: 'C' } },
    )
    await rename(draft, path)
    return { path }
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined)
    return { reason: whyNotCompiled(compiler, error, needs) }
  }
}

/** This file lies one folder deeper in `dist/` than in a checkout. */
function packageRoot(folder: string): string | undefined {
  const checkout = join(import.meta.dirname, '..', '..')
  return [checkout, dirname(checkout)].find((directory) => existsSync(join(directory, folder)))
}

/**
 * Beside the running Node, as its archives have it; in the `node` package, whose binary may lie apart from its headers;
 * then the system's. Of another version is good enough: both interfaces used here are stable across all that we run on.
 */
function headersDirectory(root: string): string | undefined {
  const beside = join(dirname(dirname(realpathSync(process.execPath))), 'include', 'node')
  const packaged = globSync(join(root, 'node_modules', '{,node/node_modules/}node-linux-*', 'include', 'node'))
  return [beside, ...packaged, '/usr/local/include/node', '/usr/include/node'].find((directory) =>
    HEADERS.every((name) => existsSync(join(directory, name))),
  )
}
