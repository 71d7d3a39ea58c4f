/**
 * What a guest boots from: Debian's stock kernel of the machine's own release, those of its modules that the guest needs, and a busybox that stands alone. Nothing is installed: the packages are unpacked, and
 * what is needed of them is kept below the ignored `node_modules` (12 MB of 400).
 */
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, globSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { REPOSITORY, runCommand } from '../../support/run-command.ts'

export interface GuestFiles {
  readonly kernel: string
  readonly busybox: string
  /** In the order in which they can be loaded. */
  readonly modules: readonly string[]
}

/** Of the kernel as Debian builds it. The clouds' kernels have no Soft-RoCE. */
const MODULES = [
  'virtio_pci',
  '9pnet_virtio',
  '9p',
  'overlay',
  'virtio_net',
  'virtio_rng',
  // Soft-RoCE asks for it by what it does, which no list of dependencies says.
  'crc32_generic',
  'rdma_rxe',
  'ib_uverbs',
  'rdma_ucm',
] as const
const META_PACKAGE = 'linux-image-amd64'
const CACHE = join(REPOSITORY, 'node_modules', '.cache', 'tidegate')
const APT_MS_MAX = 300_000
const LOOK_MS_MAX = 30_000

/** The greater part of the package, of which the guest needs nothing. */
const LEFT_OUT = ['sound', 'gpu', 'media', 'wireless', 'ethernet', 'staging', 'scsi', 'iio', 'hwmon', 'usb']

/** Of the first argument, a directory, and the second, the kernel's package. */
const UNPACK = `set -e -o pipefail
cd "$1"
apt-get download -q "$2" busybox-static
dpkg-deb -x busybox-static_*.deb .
dpkg-deb --fsys-tarfile "$2"_*.deb | tar -x ${LEFT_OUT.map((name) => `--exclude=${name}`).join(' ')}
rm ./*.deb`

/** What an earlier run has unpacked, or else it is got now. @throws Error with what went wrong */
export async function guestFiles(): Promise<GuestFiles> {
  if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error('the guest is for Linux on x86-64')
  const version = createHash('sha256').update(MODULES.join()).digest('hex').slice(0, 8)
  const directory = join(CACHE, `rdma-guest-${version}`)
  if (!existsSync(directory)) await unpackInto(directory)
  const modules = join(directory, 'modules')
  return {
    kernel: join(directory, 'vmlinuz'),
    busybox: join(directory, 'busybox'),
    modules: readdirSync(modules)
      .toSorted()
      .map((name) => join(modules, name)),
  }
}

/** There is all of it afterwards, or nothing. */
async function unpackInto(directory: string): Promise<void> {
  const work = `${directory}.${process.pid}`
  const unpacked = join(work, 'unpacked')
  const kept = join(work, 'kept')
  mkdirSync(unpacked, { recursive: true })
  mkdirSync(join(kept, 'modules'), { recursive: true })
  try {
    await download(unpacked)
    copyFileSync(onlyFile(unpacked, 'boot/vmlinuz-*'), join(kept, 'vmlinuz'))
    copyFileSync(onlyFile(unpacked, '{bin,usr/bin}/busybox'), join(kept, 'busybox'))
    const modules = await loadOrder(onlyFile(unpacked, '{lib,usr/lib}/modules/*'), MODULES)
    for (const [index, module] of modules.entries()) {
      copyFileSync(module, join(kept, 'modules', `${String(index).padStart(2, '0')}-${basename(module)}`))
    }
    renameSync(kept, directory)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

async function download(into: string): Promise<void> {
  // The lists of packages of a fresh machine are empty, those of an old one name what is no longer there.
  const first = await tryDownload(into)
  if (first === undefined) return
  await runCommand(['apt-get', 'update', '-q'], { show: false, timeoutMs: APT_MS_MAX })
  const second = await tryDownload(into)
  if (second !== undefined) throw new Error(`the guest's kernel cannot be had: ${second}`)
}

/** @returns what went wrong, if anything */
async function tryDownload(into: string): Promise<string | undefined> {
  const env = { LC_ALL: 'C' }
  const asked = await runCommand(['apt-cache', 'depends', META_PACKAGE], { show: false, timeoutMs: LOOK_MS_MAX, env })
  const name = /Depends: (linux-image-\S+)/.exec(asked.output)?.[1]
  if (name === undefined) return `apt knows no ${META_PACKAGE}: ${asked.output.trim()}`
  const done = await runCommand(['bash', '-c', UNPACK, 'unpack', into, name], {
    show: false,
    timeoutMs: APT_MS_MAX,
    env,
  })
  return done.code === 0 ? undefined : done.output.trim()
}

function onlyFile(directory: string, pattern: string): string {
  const [found, ...others] = globSync(pattern, { cwd: directory })
  if (found === undefined || others.length > 0) throw new Error(`there is no one ${pattern} in the guest's packages`)
  return join(directory, found)
}

/**
 * The files of these modules and of all that they need, each behind what it needs. A module says so itself, which takes neither an installed kernel nor the tools for it.
 * @throws Error when there is none of that name
 */
export async function loadOrder(directory: string, names: readonly string[]): Promise<string[]> {
  const files = new Map(
    globSync('**/*.ko{,.xz}', { cwd: directory }).map((path) => [moduleName(basename(path)), join(directory, path)]),
  )
  const builtIn = new Set(
    readFileSync(join(directory, 'modules.builtin'), 'utf8')
      .split('\n')
      .map((path) => moduleName(basename(path))),
  )
  const ordered = new Map<string, string>()
  const add = async (name: string): Promise<void> => {
    if (ordered.has(name) || builtIn.has(name)) return
    const file = files.get(name)
    if (file === undefined) throw new Error(`the guest's kernel has no module ${name}`)
    const plain = await uncompressed(file)
    for (const needed of needsOf(readFileSync(plain))) await add(needed)
    ordered.set(name, plain)
  }
  for (const name of names) await add(name)
  return [...ordered.values()]
}

/** As the kernel names it, whatever its file is called. */
function moduleName(file: string): string {
  return file.replace(/\.ko(\.xz)?$/, '').replaceAll('-', '_')
}

async function uncompressed(file: string): Promise<string> {
  if (!file.endsWith('.xz')) return file
  const done = await runCommand(['xz', '--decompress', file], { show: false, timeoutMs: LOOK_MS_MAX })
  if (done.code !== 0) throw new Error(done.output)
  return file.slice(0, -'.xz'.length)
}

function needsOf(module: Buffer): string[] {
  const listed = /\0depends=([^\0]*)\0/.exec(module.toString('latin1'))?.[1] ?? ''
  return listed
    .split(',')
    .filter((name) => name !== '')
    .map(moduleName)
}
