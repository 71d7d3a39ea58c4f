/**
 * A Linux of its own in QEMU, for what only a kernel can bring. Its root file system is the machine's own, read-only, with what is written going to memory; its network interface leads nowhere; one directory is
 * shared with it, by which it takes its orders and hands back what came of them.
 *
 * Hardware virtualisation is used where a guest comes up with it. Where it does not, and on a machine that has none, the processor is emulated, ten times as slow.
 */
import { spawn } from 'node:child_process'
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { gzipSync } from 'node:zlib'
import { archive } from './initramfs.ts'
import { guestFiles, type GuestFiles } from './kernel.ts'

export interface GuestOrder {
  /** For a POSIX shell, run as root; the shared directory is `/guest-share`. */
  readonly script: string
  /** From its start on. It is ended then. */
  readonly deadlineMs: number
  /** What comes on its console. */
  readonly onLine?: ((line: string) => void) | undefined
}

export interface GuestResult {
  /** That of the script; undefined: it did not come to its end. */
  readonly code: number | undefined
  /** Why there is no code, with the last of the console. */
  readonly failure?: string
  readonly isEmulated: boolean
  /** Until it took the script. */
  readonly bootMs: number
}

type Accelerator = 'kvm' | 'tcg'

const QEMU = 'qemu-system-x86_64'
const MEMORY_MIB = 3_072
const PROCESSORS = 2
/** A guest with hardware virtualisation is up in two seconds. Some machines offer it and it does not work. */
const KVM_BOOT_MS_MAX = 20_000
const UP = 'guest: up'
const LINES_KEPT = 30

/**
 * What the guest leaves in the directory is there until `done` has settled.
 * @throws Error when there is nothing to boot from
 */
export async function withGuest<Result>(
  order: GuestOrder,
  done: (result: GuestResult, shared: string) => Result | Promise<Result>,
): Promise<Result> {
  const files = await guestFiles()
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-guest-'))
  try {
    writeFileSync(join(directory, 'initramfs.gz'), gzipSync(initramfs(files), { level: 1 }))
    const shared = mkdtempSync(join(directory, 'shared-'))
    writeFileSync(join(shared, 'start'), `${order.script}\n`)
    return await done(await runGuest({ files, directory, shared }, order), shared)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

interface GuestPlaces {
  readonly files: GuestFiles
  readonly directory: string
  readonly shared: string
}

async function runGuest(places: GuestPlaces, order: GuestOrder): Promise<GuestResult> {
  if (offersKvm()) {
    const result = await boot(places, order, 'kvm')
    if (result !== undefined) return result
  }
  const result = await boot(places, order, 'tcg')
  if (result === undefined) throw new Error('an emulated guest has no other time limit than its deadline')
  return result
}

/** Whether to try. Where the processor does not show it, the device may be there, and a kernel that is booted with it hangs. */
function offersKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
    return /^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'))
  } catch {
    return false
  }
}

/** @returns undefined when it is another accelerator's turn */
function boot(places: GuestPlaces, order: GuestOrder, accelerator: Accelerator): Promise<GuestResult | undefined> {
  const startedMs = performance.now()
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', QEMU, ...argumentsOf(places, accelerator)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lastLines: string[] = []
  let bootMs: number | undefined
  let ended: string | undefined
  const end = (why: string): void => {
    ended ??= why
    child.kill('SIGKILL')
  }
  const deadline = setTimeout(() => end(`it was ended after ${order.deadlineMs / 1_000} s`), order.deadlineMs)
  const patience = accelerator === 'kvm' ? setTimeout(() => end('it did not come up'), KVM_BOOT_MS_MAX) : undefined
  const onLine = (line: string): void => {
    if (line.startsWith(UP)) {
      bootMs = performance.now() - startedMs
      clearTimeout(patience)
    }
    lastLines.push(line)
    if (lastLines.length > LINES_KEPT) lastLines.shift()
    if (bootMs !== undefined) order.onLine?.(line)
  }
  for (const input of [child.stdout, child.stderr]) createInterface({ input }).on('line', onLine)
  return new Promise((resolve) => {
    child.on('error', (error) => {
      ended = error.message
    })
    child.on('close', (status) => {
      clearTimeout(deadline)
      clearTimeout(patience)
      if (bootMs === undefined && accelerator === 'kvm') return resolve(undefined)
      const code = codeOf(places.shared)
      const facts = { code, isEmulated: accelerator === 'tcg', bootMs: bootMs ?? performance.now() - startedMs }
      if (code !== undefined) return resolve(facts)
      const why = ended ?? `QEMU ended with ${status} before the script did`
      resolve({ ...facts, failure: [`the guest failed: ${why}; the last of its console:`, ...lastLines].join('\n') })
    })
  })
}

/** init.sh leaves it. */
function codeOf(shared: string): number | undefined {
  const path = join(shared, 'ended')
  return existsSync(path) ? Number(readFileSync(path, 'utf8')) : undefined
}

function argumentsOf({ files, directory, shared }: GuestPlaces, accelerator: Accelerator): string[] {
  // The wide registers and the fast string operations are what an emulator is slowest at.
  const processor = accelerator === 'kvm' ? 'host' : 'max,-avx,-avx2,-erms,-fsrm'
  const options: readonly (readonly [string, string?])[] = [
    ['-nodefaults'],
    ['-no-user-config'],
    ['-no-reboot'],
    ['-display', 'none'],
    ['-serial', 'stdio'],
    ['-machine', 'q35'],
    ['-accel', accelerator === 'kvm' ? 'kvm' : 'tcg,thread=multi'],
    ['-cpu', processor],
    ['-smp', String(PROCESSORS)],
    ['-m', String(MEMORY_MIB)],
    ['-kernel', files.kernel],
    ['-initrd', join(directory, 'initramfs.gz')],
    ['-append', 'console=ttyS0 quiet panic=-1 mitigations=off nokaslr rdinit=/init'],
    // Mounts below the root show through: what they have in common is kept apart by `remap`.
    ['-fsdev', 'local,id=root,path=/,security_model=none,readonly=on,multidevs=remap'],
    ['-device', 'virtio-9p-pci,fsdev=root,mount_tag=root'],
    ['-fsdev', `local,id=share,path=${shared},security_model=none`],
    ['-device', 'virtio-9p-pci,fsdev=share,mount_tag=share'],
    // A hub with nothing else on it.
    ['-netdev', 'hubport,hubid=0,id=network'],
    ['-device', 'virtio-net-pci,netdev=network'],
    ['-device', 'virtio-rng-pci'],
  ]
  return options.flat().filter((word) => word !== undefined)
}

function initramfs({ busybox, modules }: GuestFiles): Buffer {
  const directories = ['bin', 'modules', 'proc', 'sys', 'dev', 'lower', 'upper', 'joined'].map((path) => ({ path }))
  return archive([
    ...directories,
    { path: 'bin/busybox', content: readFileSync(busybox) },
    { path: 'init', content: readFileSync(join(import.meta.dirname, 'init.sh')) },
    ...modules.map((module) => ({ path: `modules/${basename(module)}`, content: readFileSync(module) })),
  ])
}
