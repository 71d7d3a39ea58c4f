/**
 * The programs of an engine on a machine that has none.
 *
 * Installing Debian's docker.io would start two daemons, set rules of the packet filter and make a bridge, and keep all of that from then on. So it is only
 * unpacked, with those of the packages it needs that the machine lacks, below the ignored `node_modules`; what is there already is used as it is. The
 * plugins for `docker compose` and `docker build` are those of Debian 13 whatever the machine has: older releases have another Compose. Their list of
 * packages is read by an apt of its own, so the machine's sources stay as they are.
 */
import { accessSync, constants, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { REPOSITORY } from '../../support/run-command.ts'
import { execute, executed, type CommandOptions } from './command.ts'

/** What is slow to get is kept here from run to run. */
export const CACHE: string = join(REPOSITORY, 'node_modules', '.cache', 'tidegate')
const UNPACKED = join(CACHE, 'docker')
const PLUGINS = join(CACHE, 'docker-plugins')
/** Where Debian is had from on a machine that has it from nowhere: its own name for that. */
const DEBIAN = 'http://deb.debian.org/debian'
export const DEBIAN_RELEASE = 'trixie'
const KEYRING = 'usr/share/keyrings/debian-archive-keyring.gpg'
const LOOK_MS_MAX = 20_000
const INSTALL_MS_MAX = 300_000

/** Which package brings a program; the first ones all come with docker.io, in one version. */
const PACKAGES: Readonly<Record<string, string>> = {
  dockerd: 'docker.io',
  containerd: 'docker.io',
  runc: 'docker.io',
  'docker-proxy': 'docker.io',
  'docker-init': 'docker.io',
  docker: 'docker.io',
  debootstrap: 'debootstrap',
  ip: 'iproute2',
}
/** Those of the machine's own system, without which there is no Debian. */
const OF_THE_SYSTEM = ['unshare', 'setpriv', 'mount', 'dpkg-deb', 'apt-get'] as const

/** What the programs are told, with those that were unpacked: the machine's own come first. */
export function programEnvironment(): Record<string, string> {
  const unpacked = (...directories: string[]): string[] =>
    directories.map((directory) => join(UNPACKED, directory)).filter((directory) => existsSync(directory))
  const path = [process.env['PATH'] ?? '', '/usr/sbin', '/sbin', ...unpacked('usr/sbin', 'usr/bin', 'sbin', 'bin')]
  const libraries = unpacked('usr/lib', 'lib').flatMap((directory) => [
    ...readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name.endsWith('-linux-gnu'))
      .map((entry) => join(directory, entry.name)),
    directory,
  ])
  const scripts = unpacked('usr/share/debootstrap')[0]
  return {
    PATH: path.join(delimiter),
    HOME: process.env['HOME'] ?? '/root',
    ...(libraries.length === 0 ? {} : { LD_LIBRARY_PATH: libraries.join(delimiter) }),
    ...(scripts === undefined ? {} : { DEBOOTSTRAP_DIR: scripts }),
  }
}

/** What the configuration of `docker` says of plugins that were unpacked. */
export function pluginConfiguration(): object {
  return existsSync(PLUGINS) ? { cliPluginsExtraDirs: [PLUGINS] } : {}
}

export function debianKeyring(): string {
  return [join('/', KEYRING), join(UNPACKED, KEYRING)].find((file) => existsSync(file)) ?? join('/', KEYRING)
}

/** The archive that the machine itself gets Debian from, as its apt says. */
export async function debianMirror(): Promise<string> {
  const format = '$(ORIGIN) $(LABEL) $(REPO_URI)'
  const targets = await execute(['apt-get', 'indextargets', '--format', format, 'Created-By: Packages'], looking())
  const own = targets.stdout.split('\n').find((line) => line.startsWith('Debian Debian http'))
  return own?.split(' ')[2]?.replace(/\/$/, '') ?? DEBIAN
}

/** Whether an engine can be started as it is now. */
export async function canStartEngine(): Promise<boolean> {
  if (process.getuid?.() !== 0 || missingPrograms().length > 0) return false
  if (OF_THE_SYSTEM.some((program) => !isInPath(program)) || !existsSync(debianKeyring())) return false
  return await hasPlugins()
}

/** Gets what is missing. @returns what went wrong, if anything */
export async function installEnginePrograms(): Promise<string | undefined> {
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get'))
    return 'an engine is only started by root on Debian or Ubuntu'
  try {
    await executed(['apt-get', 'update', '-q'], installing())
    const packages = new Set(missingPrograms().map((program) => PACKAGES[program] ?? program))
    if (!existsSync(debianKeyring())) packages.add('debian-archive-keyring')
    if (packages.size > 0) await unpackWithDependencies(packages)
    if (!(await hasPlugins())) await unpackPlugins()
    return (await canStartEngine()) ? undefined : `still missing: ${missingPrograms().join(' ') || 'docker compose'}`
  } catch (error) {
    return (error as Error).message
  }
}

function looking(): CommandOptions {
  return { env: programEnvironment(), timeoutMs: LOOK_MS_MAX }
}

function installing(directory?: string): CommandOptions {
  return {
    env: { ...programEnvironment(), DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
    timeoutMs: INSTALL_MS_MAX,
    directory,
  }
}

function missingPrograms(): string[] {
  return Object.keys(PACKAGES).filter((program) => !isInPath(program))
}

function isInPath(program: string): boolean {
  const { PATH = '' } = programEnvironment()
  return PATH.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

async function hasPlugins(): Promise<boolean> {
  const directory = join(CACHE, 'docker-config')
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'config.json'), JSON.stringify(pluginConfiguration()))
  const { env, timeoutMs } = looking()
  const has = async (plugin: string): Promise<boolean> =>
    (await execute(['docker', plugin, 'version'], { env: { ...env, DOCKER_CONFIG: directory }, timeoutMs })).code === 0
  try {
    return (await has('compose')) && (await has('buildx'))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** What installing would add to the machine, as apt reckons it. */
async function unpackWithDependencies(packages: Set<string>): Promise<void> {
  // Newer releases have the client in a package of its own, which docker.io only recommends.
  const own = await execute(['apt-cache', 'madison', 'docker-cli'], installing())
  if (packages.has('docker.io') && own.stdout.includes('docker-cli')) packages.add('docker-cli')
  const reckoned = await executed(
    ['apt-get', '--simulate', 'install', '--no-install-recommends', ...packages],
    installing(),
  )
  const added = [...reckoned.matchAll(/^Inst (\S+)/gm)].map(([, name = '']) => name)
  // The C library and the loader are one, and the loader is the machine's.
  await unpack(
    added.filter((name) => !/^libc6\b/.test(name)),
    UNPACKED,
  )
}

async function unpackPlugins(): Promise<void> {
  const apt = join(CACHE, 'apt')
  rmSync(apt, { recursive: true, force: true })
  for (const directory of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(join(apt, directory), { recursive: true })
  const sources = join(apt, 'sources.list')
  writeFileSync(sources, `deb [signed-by=${debianKeyring()}] ${await debianMirror()} ${DEBIAN_RELEASE} main\n`)
  const settings = [
    `Dir::Etc::sourcelist=${sources}`,
    'Dir::Etc::sourceparts=/dev/null',
    `Dir::State::lists=${join(apt, 'lists')}`,
    `Dir::Cache=${join(apt, 'cache')}`,
    // Only root may read what is below a home directory.
    'APT::Sandbox::User=root',
  ].flatMap((setting) => ['-o', setting])
  const unpacked = join(apt, 'unpacked')
  try {
    await executed(['apt-get', ...settings, '-q', 'update'], installing())
    await unpack(['docker-compose', 'docker-buildx'], unpacked, settings)
    rmSync(PLUGINS, { recursive: true, force: true })
    renameSync(join(unpacked, 'usr/libexec/docker/cli-plugins'), PLUGINS)
  } finally {
    rmSync(apt, { recursive: true, force: true })
  }
}

/** There is all of it afterwards, or what was there before. */
async function unpack(packages: readonly string[], into: string, settings: readonly string[] = []): Promise<void> {
  const work = `${into}.new`
  rmSync(work, { recursive: true, force: true })
  mkdirSync(join(work, 'root'), { recursive: true })
  await executed(['apt-get', ...settings, '-q', 'download', ...packages], installing(work))
  const archives = readdirSync(work).filter((name) => name.endsWith('.deb'))
  for (const archive of archives) await executed(['dpkg-deb', '-x', archive, join(work, 'root')], installing(work))
  rmSync(into, { recursive: true, force: true })
  renameSync(join(work, 'root'), into)
  rmSync(work, { recursive: true })
}
