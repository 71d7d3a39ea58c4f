/**
 * Builds the native addon, where that has not been done: at the first mount, at the first test that wants it, or by
 * `npm run native`. It is a little C without dependencies, so it is one call of the C compiler; why there is no install
 * script and no node-gyp stands in docs/decisions/0011-fuse-channel.md.
 *
 * The file's name holds all that it depends on (the sources' hash, Node's ABI, platform, architecture), so a stale one is
 * never loaded. It is made under another name and renamed, so processes that build at once do not disturb each other.
 *
 * What cannot be built is "not available", with the reason in words. It never fails an installation or a start.
 */
import { execFile } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { existsSync, globSync, readFileSync, realpathSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

const COMPILE_TIMEOUT_MS = 60_000
const FOLDER = join('native', 'fuse')
const HEADERS = ['node_api.h', 'uv.h'] as const

export type BuiltAddon =
  | { readonly path: string; readonly reason?: undefined }
  | { readonly path?: undefined; readonly reason: string }

export async function buildAddon(): Promise<BuiltAddon> {
  if (process.platform !== 'linux') return { reason: `FUSE is of Linux; this is ${process.platform}` }
  const root = packageRoot()
  if (root === undefined) return { reason: `${FOLDER} is not in this installation` }
  const folder = join(root, FOLDER)
  const path = join(folder, 'build', builtName(folder))
  if (existsSync(path)) return { path }
  const headers = headersDirectory(root)
  if (headers === undefined) {
    return { reason: 'no headers of Node found (node_api.h and uv.h; Debian: apt install libnode-dev)' }
  }
  return compile(globSync(join(folder, '*.c')), path, headers)
}

function builtName(folder: string): string {
  const hash = createHash('sha256')
  for (const source of globSync(join(folder, '*.{c,h}')).sort()) hash.update(readFileSync(source))
  const version = hash.digest('hex').slice(0, 12)
  return `channel-${process.platform}-${process.arch}-abi${process.versions.modules}-${version}.node`
}

async function compile(sources: readonly string[], path: string, headers: string): Promise<BuiltAddon> {
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
      ],
      { timeout: COMPILE_TIMEOUT_MS, killSignal: 'SIGKILL' },
    )
    await rename(draft, path)
    return { path }
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined)
    return {
      reason: `${compiler} could not build ${FOLDER}: ${error instanceof Error ? error.message : String(error)}`,
    }
  }
}

/** This file lies one folder deeper in `dist/` than in a checkout. */
function packageRoot(): string | undefined {
  const checkout = join(import.meta.dirname, '..', '..', '..', '..')
  return [checkout, dirname(checkout)].find((directory) => existsSync(join(directory, FOLDER)))
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

if (import.meta.main) {
  const built = await buildAddon()
  console.log(built.path ?? `not available: ${built.reason}`)
}
