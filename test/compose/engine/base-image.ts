/**
 * The image that ours stands on: pulled where that can be done, else made of what the machine gets its own programs from. Then it is a minimal Debian with
 * the Node that runs here and an npm, under the same name, so that the Dockerfile is built as it is written. It knows the authorities that the machine
 * trusts, since the registry of npm may only be reached through one of them.
 */
import { createHash } from 'node:crypto'
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, realpathSync } from 'node:fs'
import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { execute, executed, type CommandOptions } from './command.ts'
import type { Engine } from './engine.ts'
import { roomyDirectory } from './own-engine.ts'
import { CACHE, debianKeyring, debianMirror, DEBIAN_RELEASE, programEnvironment } from './programs.ts'

const LOOK_MS_MAX = 12_000
const PULL_MS_MAX = 300_000
const MAKE_MS_MAX = 400_000
const AUTHORITIES = '/etc/ssl/certs/ca-certificates.crt'
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** What Node is linked with, and what npm and apt want to trust anybody. */
const PACKAGES = 'ca-certificates,libstdc++6,libatomic1'
/** Where the machine has none that can be copied. */
const NPM = 'npm@11'
/** As images of Debian have it: apt keeps nothing that it has fetched. */
const CLEAN_APT = `DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
`

/** The engine has it afterwards. */
export async function provideBaseImage(engine: Engine, name: string): Promise<void> {
  if ((await engine.run(['image', 'inspect', name])).code === 0) return
  if (await canPull(engine, name)) {
    await engine.docker(['pull', '--quiet', name], { timeoutMs: PULL_MS_MAX })
    return
  }
  const major = process.version.slice(1).split('.')[0]
  if (!name.startsWith(`node:${major}-${DEBIAN_RELEASE}`))
    throw new Error(`${name} cannot be pulled, and a Node ${process.version} on Debian ${DEBIAN_RELEASE} is not it`)
  const archive = await baseArchive()
  const changes = [`ENV PATH=${PATH}`, `ENV NODE_EXTRA_CA_CERTS=${AUTHORITIES}`, 'CMD ["node"]']
  const options = changes.flatMap((change) => ['--change', change])
  await engine.docker(['import', ...options, archive, name], { timeoutMs: MAKE_MS_MAX })
}

async function canPull(engine: Engine, name: string): Promise<boolean> {
  return (await engine.run(['manifest', 'inspect', name], { timeoutMs: LOOK_MS_MAX })).code === 0
}

/** Its whole file system. The last one made is kept, until what it is made of changes. */
async function baseArchive(): Promise<string> {
  const authorities = createHash('sha256').update(readFileSync(AUTHORITIES)).update(PACKAGES).update(CLEAN_APT)
  const made = `base-${DEBIAN_RELEASE}-${process.version}-${authorities.digest('hex').slice(0, 12)}.tar`
  const archive = join(CACHE, made)
  if (existsSync(archive)) return archive
  mkdirSync(CACHE, { recursive: true })
  for (const old of globSync(join(CACHE, 'base-*.tar*'))) rmSync(old)
  const work = mkdtempSync(join(roomyDirectory(), 'tidegate-base-'))
  try {
    const root = join(work, 'root')
    await layDebian(root)
    await layNode(root, work)
    cpSync(AUTHORITIES, join(root, AUTHORITIES))
    await executed(['tar', '-C', root, '--numeric-owner', '-cf', `${archive}.new`, '.'], making())
    renameSync(`${archive}.new`, archive)
    return archive
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** It mounts some of the machine's file systems meanwhile, which nobody else sees. */
async function layDebian(root: string): Promise<void> {
  const alone = ['unshare', '--mount', '--propagation', 'private', '--fork', '--kill-child'] as const
  const options = ['--variant=minbase', `--include=${PACKAGES}`, `--keyring=${debianKeyring()}`]
  await executed([...alone, 'debootstrap', ...options, DEBIAN_RELEASE, root, await debianMirror()], making())
  for (const unneeded of ['var/cache/apt/archives/*.deb', 'var/lib/apt/lists/*', 'usr/share/{doc,man,locale}/*'])
    for (const path of globSync(join(root, unneeded))) rmSync(path, { recursive: true })
  await executed(['chroot', root, 'groupadd', '--gid', '1000', 'node'], making())
  const user = ['--uid', '1000', '--gid', 'node', '--create-home', '--shell', '/bin/bash', 'node']
  await executed(['chroot', root, 'useradd', ...user], making())
  writeFileSync(join(root, 'etc/apt/apt.conf.d/docker-clean'), CLEAN_APT)
}

async function layNode(root: string, work: string): Promise<void> {
  const local = join(root, 'usr/local')
  mkdirSync(join(local, 'lib/node_modules'), { recursive: true })
  cpSync(realpathSync(process.execPath), join(local, 'bin/node'))
  cpSync(wholeNpm() ?? (await fetchedNpm(work)), join(local, 'lib/node_modules/npm'), { recursive: true })
  for (const program of ['npm', 'npx'])
    symlinkSync(`../lib/node_modules/npm/bin/${program}-cli.js`, join(local, 'bin', program))
}

/** The machine's npm, if all of it is in one place; that of Debian is not. */
function wholeNpm(): string | undefined {
  const found = (process.env['PATH'] ?? '').split(delimiter).map((directory) => join(directory, 'npm'))
  return found
    .filter((program) => existsSync(program))
    .map((program) => dirname(dirname(realpathSync(program))))
    .find((directory) => existsSync(join(directory, 'node_modules/@npmcli/arborist/package.json')))
}

async function fetchedNpm(work: string): Promise<string> {
  // It is asked as the user asks it, with what their environment and files say about the registry.
  const env = { ...inherited(), ...programEnvironment() }
  const packed = await execute(['npm', 'pack', '--silent', NPM], { env, timeoutMs: MAKE_MS_MAX, directory: work })
  if (packed.code !== 0) throw new Error(`npm cannot be had: ${packed.stderr}`)
  await executed(['tar', '-xzf', packed.stdout.trim()], { ...making(), directory: work })
  return join(work, 'package')
}

function inherited(): Record<string, string> {
  return Object.fromEntries(Object.entries(process.env).flatMap(([name, value]) => (value ? [[name, value]] : [])))
}

function making(): CommandOptions {
  return { env: { ...programEnvironment(), LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' }, timeoutMs: MAKE_MS_MAX }
}
