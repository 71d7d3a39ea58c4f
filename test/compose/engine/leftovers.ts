/**
 * What an engine could leave on a machine, looked at before and after.
 *
 * Where another engine runs meanwhile, and starts and ends containers as it likes, what cannot be told from its own is left out: links, and processes and
 * mounts that bear no mark of ours. Where none runs, as on a machine that only tests, everything counts.
 */
import { existsSync, globSync, readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { execute } from './command.ts'
import { controlGroupsNamed } from './control-groups.ts'
import { OWN_DATA, OWN_ENGINES } from './own-engine.ts'
import { allProcesses, nameOf } from './processes.ts'
import { CACHE, programEnvironment } from './programs.ts'

const LOOK_MS_MAX = 10_000
const ENGINE_PROCESS = /^(docker|containerd|runc|buildkit|debootstrap|unshare)/
const SETTINGS = ['ipv4/ip_forward', 'ipv6/conf/all/forwarding', 'ipv4/conf/all/route_localnet'] as const
const FILES = [
  join(tmpdir(), `${OWN_ENGINES}*`),
  join(tmpdir(), `${OWN_DATA}*`),
  join(tmpdir(), `tidegate-{project,harness}-${process.pid}-*`),
  join(CACHE, `${OWN_DATA}*`),
  join(CACHE, '*.new'),
  join(homedir(), '.docker'),
  '/run/docker',
  '/run/containerd',
  '/etc/docker',
  '/etc/docker/*',
  '/var/lib/docker',
  '/var/lib/containerd',
] as const

/** One line for each thing. */
export async function machineState(): Promise<ReadonlySet<string>> {
  const processes = engineProcesses()
  const counts = processes.some(({ name, isOurs }) => name === 'dockerd' && !isOurs)
    ? ({ isOurs }: Mark): boolean => isOurs
    : (): boolean => true
  return new Set([
    ...processes.filter(counts).map(({ pid, name }) => `process ${pid} ${name}`),
    ...mounts()
      .filter(counts)
      .map(({ at }) => `mount ${at}`),
    ...links()
      .filter(counts)
      .map(({ name }) => `link ${name}`),
    ...SETTINGS.map((name) => `setting ${name} = ${readSetting(name)}`),
    ...(await packetFilterRules()),
    ...controlGroups().map((path) => `control group ${path}`),
    ...loopDevices(),
    ...FILES.flatMap((pattern) => globSync(pattern)).map((path) => `file ${path}`),
  ])
}

/** What was not there before. */
export function leftovers(before: ReadonlySet<string>, after: ReadonlySet<string>): string[] {
  return [...after].filter((line) => !before.has(line)).sort()
}

/** Whether it can only be of an engine of ours. */
interface Mark {
  readonly isOurs: boolean
}

/** Those of an engine by name, and those of containers by their namespace, which is not ours. */
function engineProcesses(): ({ readonly pid: number; readonly name: string } & Mark)[] {
  const own = namespaceOf(process.pid)
  return allProcesses()
    .map((pid) => ({ pid, name: nameOf(pid) }))
    .filter(({ pid, name }) => ENGINE_PROCESS.test(name) || ![own, undefined].includes(namespaceOf(pid)))
    .map((seen) => ({ ...seen, isOurs: isMarked(seen.pid) }))
}

/** By the socket in its environment, which all inherit but those in containers, and these are in our control groups. */
function isMarked(pid: number): boolean {
  return ['environ', 'cgroup'].some((file) => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, 'latin1').includes(OWN_ENGINES)
    } catch {
      return false
    }
  })
}

function mounts(): ({ readonly at: string } & Mark)[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter(Boolean)
  return lines.map((line) => ({ at: line.split(' ')[4] ?? '', isOurs: line.includes(OWN_ENGINES) }))
}

function links(): ({ readonly name: string } & Mark)[] {
  return readdirSync('/sys/class/net').map((name) => ({ name, isOurs: false }))
}

function namespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`)
  } catch {
    return undefined
  }
}

function readSetting(name: string): string {
  const file = join('/proc/sys/net', name)
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : 'none'
}

/** Of the programs that there are. Without comments, which hold the time and counters. */
async function packetFilterRules(): Promise<string[]> {
  const rules: string[] = []
  for (const command of [['iptables-save'], ['ip6tables-save'], ['nft', 'list', 'ruleset']] as const) {
    const { code, stdout } = await execute([...command], { env: programEnvironment(), timeoutMs: LOOK_MS_MAX })
    const lines = code === 0 ? stdout.split('\n').map((line) => line.replace(/\[\d+:\d+\]/, '').trim()) : []
    rules.push(...lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => `rule ${line}`))
  }
  return rules
}

function controlGroups(): string[] {
  return controlGroupsNamed('.').flatMap((root) =>
    readdirSync(root, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(root, entry.name)),
  )
}

function loopDevices(): string[] {
  return globSync('/sys/block/loop*/loop/backing_file').map((file) => `loop device ${file}`)
}
