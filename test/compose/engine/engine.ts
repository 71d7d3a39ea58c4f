/** The engine that compose files are brought up on: one that answers already, else one of our own. */
import { execute, type CommandOutput } from './command.ts'
import { OwnEngine } from './own-engine.ts'
import { canStartEngine, installEnginePrograms, programEnvironment } from './programs.ts'

const RUN_MS_MAX = 60_000
const LOOK_MS_MAX = 15_000
/** What of the environment says where the engine is, and how it is reached. */
const CLIENT_VARIABLES = [
  'DOCKER_HOST',
  'DOCKER_CONTEXT',
  'DOCKER_CONFIG',
  'DOCKER_TLS_VERIFY',
  'DOCKER_CERT_PATH',
  'XDG_RUNTIME_DIR',
] as const

export interface EngineRunOptions {
  readonly timeoutMs?: number
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
}

export interface Engine {
  /** For DOCKER_HOST. */
  readonly host: string
  /** What a program that calls `docker` itself is told. */
  readonly environment: Readonly<Record<string, string>>
  /** @returns what it wrote. Rejects with its errors when it fails or takes too long. */
  docker(args: readonly string[], options?: EngineRunOptions): Promise<string>
  /** The same for one that may fail: never rejects. */
  run(args: readonly string[], options?: EngineRunOptions): Promise<CommandOutput>
  /** Of one of our own: with everything it runs. Another one goes on. */
  end(): Promise<void>
}

export async function startEngine(): Promise<Engine> {
  const given = givenEnvironment()
  if (await answers(given)) return engineBy(given, async () => await Promise.resolve())
  const failed = (await canStartEngine()) ? undefined : await installEnginePrograms()
  if (failed !== undefined) throw new Error(`there is no engine, and none can be started: ${failed}`)
  const own = await OwnEngine.start()
  return engineBy(own.environment, async () => await own.end())
}

/** Whether there is one, or one could be started as the machine is. */
export async function hasEngine(): Promise<boolean> {
  return (await answers(givenEnvironment())) || (await canStartEngine())
}

function givenEnvironment(): Record<string, string> {
  const given = CLIENT_VARIABLES.flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value] as const]
  })
  return { ...programEnvironment(), ...Object.fromEntries(given) }
}

async function answers(env: Readonly<Record<string, string>>): Promise<boolean> {
  const works = async (...args: string[]): Promise<boolean> =>
    (await execute(['docker', ...args], { env, timeoutMs: LOOK_MS_MAX })).code === 0
  return (await works('info')) && (await works('compose', 'version'))
}

function engineBy(environment: Readonly<Record<string, string>>, end: () => Promise<void>): Engine {
  const run: Engine['run'] = async (args, { timeoutMs = RUN_MS_MAX, env = {}, input } = {}) =>
    await execute(['docker', ...args], { env: { ...environment, ...env }, timeoutMs, input })
  return {
    host: environment['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock',
    environment,
    run,
    docker: async (args, options) => {
      const { code, stdout, stderr } = await run(args, options)
      if (code !== 0) throw new Error(`docker ${args.join(' ')} ended with ${code}: ${stderr.trim() || stdout.trim()}`)
      return stdout
    },
    end,
  }
}
