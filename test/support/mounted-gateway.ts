/**
 * A gateway with its namespace mounted, and shells that use the mount. Only child processes ever touch it: a test that waited for
 * a dead mount by itself could not be ended.
 */
import { execFile } from 'node:child_process'
import { chown, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startGateway, type GatewayOptions, type GatewayProcess } from './gateway-process.ts'

const SHELL_MS_MAX = 60_000

export interface ShellResult {
  readonly stdout: string
  readonly stderr: string
  /** Undefined when it was killed for taking too long. */
  readonly code: number | undefined
}

export interface MountedGateway {
  readonly gateway: GatewayProcess
  readonly data: string
  readonly mountPoint: string
  readonly logFile: string
  /** Runs a script in a directory of the mount, for a minute at most unless told otherwise. */
  shell(script: string, directory?: string, timeoutMs?: number): Promise<ShellResult>
  /** Starts again after `gateway.stop` or `gateway.kill`. */
  restart(): Promise<void>
  /** Ends everything, whatever state it is in. */
  stop(): Promise<void>
}

export interface MountedOptions extends Pick<GatewayOptions, 'program' | 'environment' | 'root'> {
  /** Instead of a directory of its own. */
  readonly data?: string
  /** Owner of mount point and data directory, when that is not who runs the test. */
  readonly uid?: number
}

export async function startMounted(
  flags: readonly string[] = [],
  { data: givenData, uid, ...more }: MountedOptions = {},
): Promise<MountedGateway> {
  const home = await mkdtemp(join(tmpdir(), 'tidegate-mount-'))
  const [data, mountPoint] = [givenData ?? join(home, 'data'), join(home, 'mnt')]
  await mkdir(mountPoint)
  if (uid !== undefined) for (const directory of [home, mountPoint]) await chown(directory, uid, uid)
  const logFile = join(home, 'log')
  const options = { data, flags: ['--mount', mountPoint, ...flags], logFile, ...more }
  const clean = async (): Promise<void> => {
    await shell(`umount -l ${JSON.stringify(mountPoint)}`)
    await rm(home, { recursive: true, force: true })
  }
  let gateway = await startGateway(options).catch(async (error: unknown) => {
    // It may have mounted before it failed.
    await clean()
    throw error
  })
  const { root } = gateway
  return {
    get gateway() {
      return gateway
    },
    data,
    mountPoint,
    logFile,
    shell: (script, directory = '.', timeoutMs = SHELL_MS_MAX) =>
      shell(`cd ${JSON.stringify(join(mountPoint, directory))} && { ${script}\n}`, timeoutMs),
    restart: async () => {
      gateway = await startGateway({ ...options, root })
    },
    stop: async () => {
      await gateway.stop()
      await clean()
    },
  }
}

export function shell(script: string, timeoutMs: number = SHELL_MS_MAX): Promise<ShellResult> {
  return new Promise((resolve) => {
    const limits = { timeout: timeoutMs, killSignal: 'SIGKILL' as const, maxBuffer: 64 * 1024 * 1024 }
    execFile('bash', ['-c', script], limits, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code
      resolve({ stdout, stderr, code: typeof code === 'number' ? code : undefined })
    })
  })
}
