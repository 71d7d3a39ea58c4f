/**
 * The gateway as its users run it: a process of its own, started by the command line, known by what it prints and answers.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { metadataFlags } from './metadata-switch.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const PROGRAM = [process.execPath, MAIN] as const
const READY_MS_MAX = 60_000
const STOP_MS_MAX = 60_000

export interface GatewayCredentials {
  readonly accessKey: string
  readonly secretKey: string
}

/** Where a gateway is reached, whoever runs it, and as whom. */
export interface GatewayDoors {
  /** Origin of the S3 port, such as http://127.0.0.1:40001. */
  readonly s3: string
  /** Origin of the HTTP port: metrics, health. */
  readonly http: string
  readonly root: GatewayCredentials
}

export interface GatewayProcess extends GatewayDoors {
  readonly child: ChildProcess
  readonly pid: number
  /** SIGTERM, and the exit code once it has ended. */
  stop(): Promise<number | null>
  /** SIGKILL, and returns once it has ended. */
  kill(): Promise<void>
}

export interface GatewayOptions {
  readonly data: string
  /** Further arguments of `tidegate serve`. */
  readonly flags?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly root?: GatewayCredentials
  /** Where its log goes; inherited by default. */
  readonly logFile?: string
  /** What runs `tidegate` instead of this repository's sources by this process's user: the arguments follow. */
  readonly program?: readonly [string, ...string[]]
}

export function randomCredentials(): GatewayCredentials {
  return { accessKey: `AK${randomBytes(9).toString('hex').toUpperCase()}`, secretKey: randomBytes(20).toString('hex') }
}

/** Starts a gateway on free ports of the loopback address and waits until it says that it is ready. */
export async function startGateway(options: GatewayOptions): Promise<GatewayProcess> {
  const root = options.root ?? randomCredentials()
  const addresses = ['--s3', '127.0.0.1:0', '--http', '127.0.0.1:0']
  const [program, ...first] = options.program ?? PROGRAM
  const flags = [...addresses, ...(options.flags ?? [])]
  flags.push(...(await metadataFlags(options.data, flags)))
  const child = spawn(program, [...first, 'serve', '--data', options.data, ...flags], {
    env: {
      ...process.env,
      // Ours, and no option of the gateway, which refuses what it does not know.
      TIDEGATE_TEST_SEED: undefined,
      TIDEGATE_ETCD: undefined,
      TIDEGATE_TEST_META: undefined,
      TIDEGATE_ROOT_USER: root.accessKey,
      TIDEGATE_ROOT_PASSWORD: root.secretKey,
      ...options.environment,
    },
    stdio: ['ignore', 'pipe', options.logFile === undefined ? 'inherit' : 'pipe'],
  })
  if (options.logFile !== undefined) child.stderr?.pipe(createWriteStream(options.logFile, { flags: 'a' }))
  const { s3, http } = await readyLine(child)
  return {
    child,
    pid: child.pid ?? 0,
    s3,
    http,
    root,
    stop: async () => {
      child.kill('SIGTERM')
      const overdue = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
      await ended(child)
      clearTimeout(overdue)
      return child.exitCode
    },
    kill: async () => {
      child.kill('SIGKILL')
      await ended(child)
    },
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

function readyLine(child: ChildProcess): Promise<{ s3: string; http: string }> {
  return new Promise((resolve, reject) => {
    const give = (message: string): void => {
      clearTimeout(timer)
      child.kill('SIGKILL')
      reject(new Error(message))
    }
    const timer = setTimeout(() => give(`the gateway was not ready within ${READY_MS_MAX} ms`), READY_MS_MAX)
    child.once('error', (error) => give(`the gateway could not be started: ${error.message}`))
    child.once('exit', (code) => give(`the gateway ended with code ${code} before it was ready`))
    if (child.stdout === null) return give('the gateway has no standard output')
    createInterface({ input: child.stdout }).on('line', (line) => {
      const match = /^ready s3=(?<s3>\S+) http=(?<http>\S+)/.exec(line)
      if (match?.groups === undefined) return
      clearTimeout(timer)
      resolve({ s3: match.groups['s3'] ?? '', http: match.groups['http'] ?? '' })
    })
  })
}
