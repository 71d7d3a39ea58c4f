/** Compose files brought up as a project, and its containers. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { executed, type CommandOutput } from './engine/command.ts'
import type { Engine } from './engine/engine.ts'
import { firstProcessOf } from './engine/processes.ts'
import { programEnvironment } from './engine/programs.ts'

const UP_MS_MAX = 120_000
const RUN_MS_MAX = 60_000
const STOP_MS_MAX = 120_000
const EXEC_MS_MAX = 60_000
const LOG_LINES_SHOWN = 40
/** Its numbers, by which every Linux knows it. */
const FUSE = ['c', '10', '229'] as const
const FUSE_VARIABLE = 'TIDEGATE_FUSE_DEVICE'

export interface ProjectOptions {
  readonly name: string
  readonly files: readonly string[]
  /** All that the files are told: nothing is taken over from this process or from a file `.env`. */
  readonly environment?: Readonly<Record<string, string>>
  /** As one more of the files, the last. */
  readonly override?: object
  /** All unless given. */
  readonly services?: readonly string[]
  /** For all of them to be running, and healthy where they say what that is. */
  readonly waitMs?: number
}

export interface ContainerState {
  readonly status: string
  /** undefined without a health check. */
  readonly health: string | undefined
  readonly exitCode: number
  readonly restarts: number
}

export interface Container {
  readonly id: string
  readonly service: string
  /** Of its first process, on this machine; 0 when it does not run. */
  pid(): Promise<number>
  /** In the project's network. May be another one after a restart. */
  address(): Promise<string>
  /** `127.0.0.1:NNNNN`. Another one after a restart if the compose file leaves it open. */
  published(port: number): Promise<string>
  kill(): Promise<void>
  start(): Promise<void>
  /** Within the grace time of its compose file; then it is killed. */
  stop(): Promise<void>
  pause(): Promise<void>
  unpause(): Promise<void>
  /** When it takes too long the code is 124, and the program goes on in the container. */
  exec(argv: readonly string[], options?: ExecOptions): Promise<CommandOutput>
  /** Both outputs, since it was made. */
  logs(): Promise<string>
  state(): Promise<ContainerState>
}

export interface ExecOptions {
  readonly user?: string
  readonly input?: string
  readonly timeoutMs?: number
}

export class ComposeProject {
  readonly #engine: Engine
  readonly #options: ProjectOptions
  readonly #directory: string
  readonly #files: readonly string[]

  private constructor(engine: Engine, options: ProjectOptions) {
    this.#engine = engine
    this.#options = options
    this.#directory = mkdtempSync(join(tmpdir(), `tidegate-project-${process.pid}-`))
    const override = join(this.#directory, 'override.json')
    if (options.override !== undefined) writeFileSync(override, JSON.stringify(options.override))
    this.#files = [...options.files, ...(options.override === undefined ? [] : [override])]
  }

  /** @throws Error with the state of all containers and the end of their logs; nothing is left of them then. */
  static async up(engine: Engine, options: ProjectOptions): Promise<ComposeProject> {
    const { waitMs = UP_MS_MAX, services = [] } = options
    const project = new ComposeProject(engine, options)
    try {
      await project.#makeFuseDevice()
      await project.compose(['up', '-d', '--no-build', '--wait', ...services], { timeoutMs: waitMs })
      return project
    } catch (error) {
      const said = await project.#account()
      await project.down()
      throw new Error(`${(error as Error).message}\n${said}`, { cause: error })
    }
  }

  async compose(args: readonly string[], { timeoutMs = RUN_MS_MAX }: { timeoutMs?: number } = {}): Promise<string> {
    return await this.#engine.docker(this.#command(args), { timeoutMs, env: this.#environment })
  }

  /** `index` counts from 1, as compose does. */
  async container(service: string, index: number = 1): Promise<Container> {
    const found = await this.compose(['ps', '-aq', '--no-trunc', service])
    for (const id of found.split('\n').filter(Boolean)) {
      const label = '{{index .Config.Labels "com.docker.compose.container-number"}}'
      const number = await this.#engine.docker(['inspect', '-f', label, id])
      if (Number(number) === index) return new EngineContainer(this.#engine, id, service)
    }
    throw new Error(`${this.#options.name} has no container ${index} of ${service}`)
  }

  /** With volumes, networks, and containers of services that no file has any more. */
  async down(): Promise<void> {
    try {
      await this.compose(['down', '-v', '--remove-orphans', '-t', '1'], { timeoutMs: STOP_MS_MAX })
    } finally {
      rmSync(this.#directory, { recursive: true, force: true })
    }
  }

  get #environment(): Readonly<Record<string, string>> {
    return { [FUSE_VARIABLE]: join(this.#directory, 'fuse'), ...this.#options.environment }
  }

  /** One that everybody may open: on some machines /dev/fuse is root's alone. */
  async #makeFuseDevice(): Promise<void> {
    const command = ['mknod', '-m', '666', join(this.#directory, 'fuse'), ...FUSE] as const
    if (this.#options.environment?.[FUSE_VARIABLE] === undefined)
      await executed(command, { env: programEnvironment(), timeoutMs: RUN_MS_MAX })
  }

  #command(args: readonly string[]): string[] {
    const files = this.#files.flatMap((file) => ['-f', file])
    return ['compose', '--env-file', '/dev/null', '--progress', 'plain', '-p', this.#options.name, ...files, ...args]
  }

  /** For whoever must find out why it is not up. */
  async #account(): Promise<string> {
    const env = this.#environment
    const shown = async (...args: string[]): Promise<string> => {
      const { stdout, stderr } = await this.#engine.run(this.#command(args), { env })
      return stdout + stderr
    }
    return `${await shown('ps', '-a')}\n${await shown('logs', '--no-color', '--tail', String(LOG_LINES_SHOWN))}`
  }
}

/** What of `docker inspect` is read here. */
interface Inspected {
  readonly State: {
    readonly Status: string
    readonly Running: boolean
    readonly ExitCode: number
    readonly Health?: { readonly Status: string }
  }
  readonly RestartCount: number
  readonly NetworkSettings: { readonly Networks: Readonly<Record<string, { readonly IPAddress: string }>> }
}

class EngineContainer implements Container {
  readonly id: string
  readonly service: string
  readonly #engine: Engine

  constructor(engine: Engine, id: string, service: string) {
    this.#engine = engine
    this.id = id
    this.service = service
  }

  async pid(): Promise<number> {
    const { Running } = (await this.#inspect()).State
    return Running ? (firstProcessOf(this.id) ?? 0) : 0
  }

  async address(): Promise<string> {
    const networks = Object.values((await this.#inspect()).NetworkSettings.Networks)
    const address = networks.map(({ IPAddress }) => IPAddress).find((known) => known !== '')
    if (address === undefined) throw new Error(`${this.service} has no address`)
    return address
  }

  async published(port: number): Promise<string> {
    const published = (await this.#engine.docker(['port', this.id, `${port}/tcp`])).split('\n')[0]?.trim()
    if (!published) throw new Error(`${this.service} does not publish ${port}`)
    return published
  }

  async kill(): Promise<void> {
    await this.#engine.docker(['kill', this.id])
  }

  async start(): Promise<void> {
    await this.#engine.docker(['start', this.id])
  }

  async stop(): Promise<void> {
    await this.#engine.docker(['stop', this.id], { timeoutMs: STOP_MS_MAX })
  }

  async pause(): Promise<void> {
    await this.#engine.docker(['pause', this.id])
  }

  async unpause(): Promise<void> {
    await this.#engine.docker(['unpause', this.id])
  }

  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<CommandOutput> {
    const { user, input, timeoutMs = EXEC_MS_MAX } = options
    const flags = [...(user === undefined ? [] : ['--user', user]), ...(input === undefined ? [] : ['--interactive'])]
    const given = input === undefined ? {} : { input }
    return await this.#engine.run(['exec', ...flags, this.id, ...argv], { timeoutMs, ...given })
  }

  async logs(): Promise<string> {
    const { stdout, stderr } = await this.#engine.run(['logs', this.id])
    return stdout + stderr
  }

  async state(): Promise<ContainerState> {
    const { State, RestartCount } = await this.#inspect()
    return {
      status: State.Status,
      health: State.Health?.Status,
      exitCode: State.ExitCode,
      restarts: RestartCount,
    }
  }

  async #inspect(): Promise<Inspected> {
    const [inspected] = JSON.parse(await this.#engine.docker(['inspect', this.id])) as readonly Inspected[]
    if (inspected === undefined) throw new Error(`${this.service} is gone`)
    return inspected
  }
}
