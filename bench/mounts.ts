/**
 * The file systems that the mount is compared with, side by side on the same disk:
 *
 *     gateway   the mount of a gateway, in a bucket of its own; data directory and the rest below are on the same disk
 *     null      a FUSE server that keeps nothing (bare/null-tree.ts), on the same channel: the ceiling
 *     local     a directory without anything above it
 *     bindfs    a FUSE file system in C over such a directory; where it is not installed,
 *     rclone    another in Go, with its cache for writes; where that is not installed either, none
 *
 * This process never touches a mount itself: programs that it starts do.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { compare, takeTurns, type BenchmarkContext, type Measurement } from './benchmark.ts'
import { whenEnding } from './ending.ts'
import { BUCKET, sendOnce } from './gateway-probe.ts'
import { isInstalled, runProgram } from './program.ts'
import { SLOT_COUNT, SPIN_US_MAX } from '../src/mount.ts'
import type { GatewayProcess } from '../test/support/gateway-process.ts'

const NULL_SERVER = fileURLToPath(new URL('./fuse-null-server.ts', import.meta.url))
const READY_MS_MAX = 20_000
const STOP_MS_MAX = 20_000
const POLL_MS = 20

export type MountName = 'gateway' | 'null' | 'local' | 'bindfs' | 'rclone'

export interface Mounted {
  readonly name: MountName
  /** Empty at first; for the gateway, the bucket. */
  readonly directory: string
  /** Of the server, where it is ours. */
  readonly pid?: number
}

export interface Mounts {
  readonly gateway: GatewayProcess
  /** The root of the gateway's mount: its buckets. */
  readonly gatewayRoot: string
  /** All there are, the gateway first. */
  readonly all: readonly Mounted[]
}

export interface MountsWanted {
  /** Of the gateway: used if it is there, with the bucket in it. */
  readonly data?: string
  /** No other user-space file system beside the gateway. */
  readonly withoutOther?: boolean
}

/** Other user-space file systems over a local directory, by what starts them: the first that is installed. They stay in the foreground. */
const OTHERS = {
  bindfs: ({ source, mountPoint }: Place) => ['bindfs', '-f', source, mountPoint],
  rclone: ({ source, mountPoint, cache }: Place) => [
    'rclone',
    'mount',
    '--config=/dev/null',
    '--vfs-cache-mode=writes',
    `--cache-dir=${cache}`,
    source,
    mountPoint,
  ],
} as const satisfies Partial<Record<MountName, (place: Place) => string[]>>

interface Place {
  readonly source: string
  readonly mountPoint: string
  readonly cache: string
}

const OTHER_NAMES = ['bindfs', 'rclone'] as const satisfies (keyof typeof OTHERS)[]

/** Starts them, and ends and unmounts them all whatever becomes of `use`. @throws when this machine cannot mount */
export async function withMounts<T>(
  context: BenchmarkContext,
  wanted: MountsWanted,
  use: (mounts: Mounts) => Promise<T>,
): Promise<T> {
  if (!existsSync('/dev/fuse')) {
    throw new Error('there is no /dev/fuse here (kernel module "fuse"; a container needs --device /dev/fuse)')
  }
  const ends: (() => Promise<void>)[] = []
  try {
    const mounts = await startGatewayMount(context, wanted.data, ends)
    const all: Mounted[] = [{ name: 'gateway', directory: join(mounts.gatewayRoot, BUCKET), pid: mounts.gateway.pid }]
    all.push(await startNull(context, ends), makeLocal(context))
    if (wanted.withoutOther !== true) all.push(...(await startOther(context, ends)))
    return await use({ ...mounts, all })
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

async function startGatewayMount(
  context: BenchmarkContext,
  data: string | undefined,
  ends: (() => Promise<void>)[],
): Promise<Pick<Mounts, 'gateway' | 'gatewayRoot'>> {
  const gatewayRoot = join(context.directory, 'gateway')
  mkdirSync(gatewayRoot)
  const done = whenEnding(() => unmount(gatewayRoot))
  ends.push(async () => {
    unmount(gatewayRoot)
    done()
  })
  const gateway = await context.gateway(data ?? join(context.directory, 'data'), ['--mount', gatewayRoot])
  ends.push(async () => void (await gateway.stop()))
  if (data === undefined) await makeLevelBucket(context, gateway, { bucket: BUCKET, level: 'journal' })
  return { gateway, gatewayRoot }
}

/** A bucket whose writes are acknowledged at that level. */
export async function makeLevelBucket(
  context: BenchmarkContext,
  gateway: GatewayProcess,
  { bucket, level }: { bucket: string; level: string },
): Promise<void> {
  await sendOnce(context, gateway, { method: 'PUT', path: `/${bucket}`, headers: { 'x-tidegate-ack': level } })
}

async function startNull({ directory }: BenchmarkContext, ends: (() => Promise<void>)[]): Promise<Mounted> {
  const mountPoint = join(directory, 'null')
  mkdirSync(mountPoint)
  const options = JSON.stringify({ tree: true, slotCount: SLOT_COUNT, spinUsMax: SPIN_US_MAX })
  const pid = await startServer([process.execPath, NULL_SERVER, mountPoint, options], mountPoint, ends)
  return { name: 'null', directory: mountPoint, pid }
}

function makeLocal(context: BenchmarkContext): Mounted {
  const directory = join(context.directory, 'local')
  mkdirSync(directory)
  return { name: 'local', directory }
}

async function startOther(context: BenchmarkContext, ends: (() => Promise<void>)[]): Promise<Mounted[]> {
  const name = OTHER_NAMES.find((program) => isInstalled(program))
  if (name === undefined) {
    context.note(
      `none of ${OTHER_NAMES.join(' and ')} is on this machine: no rows against another user-space file system`,
    )
    return []
  }
  const { directory } = context
  const place = {
    source: join(directory, `${name}-source`),
    mountPoint: join(directory, name),
    cache: join(directory, `${name}-cache`),
  }
  for (const path of Object.values(place)) mkdirSync(path)
  await startServer(OTHERS[name](place), place.mountPoint, ends)
  return [{ name, directory: place.mountPoint }]
}

/** @returns its process id, once it is mounted */
async function startServer(
  [program = '', ...words]: readonly string[],
  mountPoint: string,
  ends: (() => Promise<void>)[],
): Promise<number> {
  let said = ''
  const child = spawn(program, words, { stdio: ['ignore', 'ignore', 'pipe'] })
  child.stderr.on('data', (chunk) => (said = `${said}${String(chunk)}`.slice(-2000)))
  child.on('error', (error) => (said = error.message))
  const done = whenEnding(() => {
    unmount(mountPoint)
    child.kill('SIGKILL')
  })
  ends.push(async () => {
    await stop(child)
    unmount(mountPoint)
    done()
  })
  for (const endMs = Date.now() + READY_MS_MAX; !isMounted(mountPoint); await sleep(POLL_MS)) {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null && Date.now() < endMs) continue
    throw new Error(`${program} did not mount: ${said.trim()}`)
  }
  return child.pid ?? 0
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const overdue = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
  await exited
  clearTimeout(overdue)
}

/** By the kernel's list, which asks no server. */
function isMounted(mountPoint: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${mountPoint} `)
}

/** Whether its server lives or not. */
export function unmount(mountPoint: string): void {
  if (!isMounted(mountPoint)) return
  const [program = '', ...words] = process.geteuid?.() === 0 ? ['umount', '-l'] : ['fusermount3', '-u', '-z']
  spawnSync(program, [...words, mountPoint], { stdio: 'ignore' })
}

export function directoryOf({ all }: Mounts, name: MountName): string {
  const mounted = all.find((one) => one.name === name)
  if (mounted === undefined) throw new Error(`${name} is not mounted`)
  return mounted.directory
}

export type Taken = Partial<Record<MountName, number[]>>

/** Measures each in turn, once a round. */
export function takeTurnsOf(
  { all }: Mounts,
  rounds: number,
  measure: (mounted: Mounted) => Promise<number>,
): Promise<Taken> {
  return takeTurns(rounds, Object.fromEntries(all.map((mounted) => [mounted.name, () => measure(mounted)])))
}

export interface MountRow extends Pick<Measurement, 'name' | 'unit'> {
  /** Against the null server. */
  readonly aim?: string
  readonly durability?: string
  /** What it is for others, where it is not the same: `local: disk`. */
  readonly othersDurability?: string
}

/** One row against each that was measured: the null server under the row's name, the others under theirs behind it. */
export function rowsAgainst(row: MountRow, taken: Taken): Measurement[] {
  const { gateway = [], ...others } = taken
  return Object.entries(others).map(([other, ceilings]) => ({
    name: other === 'null' ? row.name : `${row.name}-${other}`,
    unit: row.unit,
    ...compare(gateway, ceilings),
    aim: other === 'null' ? (row.aim ?? null) : null,
    durability: row.othersDurability === undefined ? (row.durability ?? 'none') : durabilityOf(row, other),
  }))
}

function durabilityOf({ durability, othersDurability }: MountRow, other: string): string {
  const keeps = other === 'null' ? 'nothing kept' : other === 'rclone' ? 'nothing synced' : othersDurability
  return `${durability}; ${other}: ${keeps}`
}

/**
 * Makes the kernel forget names and attributes, so that it asks again. Of the whole machine, since there is no smaller way.
 * @returns whether it may
 */
export async function forgetNames(): Promise<boolean> {
  try {
    await runProgram('sh', ['-c', 'echo 2 > /proc/sys/vm/drop_caches'])
    return true
  } catch {
    return false
  }
}
