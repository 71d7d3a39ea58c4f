/**
 * An engine that a test starts, and of which nothing is left behind, however the test ends.
 *
 * It runs in mount and process namespaces of its own. What it mounts is not seen outside and goes with it; and when its first process is killed, the
 * kernel kills all the others: the engine, containerd, the containers. Only what is paused hears of it later. That first process is killed with the one
 * that started it. What then remains is made of files: its directory and that of its data, bridges, and control groups; these it removes at its end, or the
 * next one at its start, which finds them by the files `engine.json`.
 *
 * The places where an engine keeps what it does not let anybody move lie below file systems of its own, so another engine of the machine is not in its way.
 * It sets no rule of the packet filter and does not let the machine forward packets: containers see each other and have no way out.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { rmdirSync, statSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { execute, type CommandOutput } from './command.ts'
import { removeControlGroups } from './control-groups.ts'
import { childOf, identityOf, isRunning, type ProcessIdentity } from './processes.ts'
import { CACHE, pluginConfiguration, programEnvironment } from './programs.ts'

export const OWN_ENGINES = 'tidegate-engine-'
export const OWN_DATA = 'tidegate-data-of-'
const DESCRIPTION = 'engine.json'
/** Where an engine keeps sockets and keys whatever it is told. */
const MASKED = ['/run/containerd', '/run/docker', '/etc/docker'] as const
const UP_WITHIN_MS = 60_000
const CLEARED_WITHIN_MS = 60_000
const STOPPED_WITHIN_MS = 30_000
const KILLED_WITHIN_MS = 10_000
const LOOK_EVERY_MS = 100
const LOOK_MS_MAX = 10_000
const LOG_TAIL_CHARS = 3_000
/** One without a description is about to get it, unless it is older. */
const BEGUN_MS_MAX = 60_000
/** Of `statfs`: an engine cannot lay its own overlays on them, or they are in memory. */
const UNFIT_FILE_SYSTEMS: readonly number[] = [0x794c7630, 0x01021994, 0x858458f6]

interface Description {
  readonly owner: ProcessIdentity
  /** The first process of its namespaces has this one as parent. */
  readonly runner?: ProcessIdentity | undefined
  readonly data: string
  readonly controlGroup: string
  /** Empty directories that were made to mount on. */
  readonly made: readonly string[]
}

export class OwnEngine {
  readonly environment: Readonly<Record<string, string>>
  readonly #directory: string
  readonly #runner: ChildProcess

  private constructor(directory: string, runner: ChildProcess, environment: Readonly<Record<string, string>>) {
    this.#directory = directory
    this.#runner = runner
    this.environment = environment
  }

  static async start(): Promise<OwnEngine> {
    await removeEnginesLeftBehind()
    const directory = mkdtempSync(join(tmpdir(), OWN_ENGINES))
    const description = describeNew(directory)
    mkdirSync(description.data, { recursive: true })
    const config = join(directory, 'config')
    mkdirSync(config)
    writeFileSync(join(config, 'config.json'), JSON.stringify(pluginConfiguration()))
    const socket = `unix://${join(directory, 'docker.sock')}`
    const environment = { ...programEnvironment(), DOCKER_HOST: socket, DOCKER_CONFIG: config }
    for (const masked of description.made) mkdirSync(masked)
    const log = openSync(join(directory, 'log'), 'a')
    const command = commandOf(description, socket)
    const runner = spawn(command[0], command.slice(1), { env: environment, stdio: ['ignore', log, log] })
    runner.on('error', () => undefined)
    closeSync(log)
    const engine = new OwnEngine(directory, runner, environment)
    try {
      const identity = runner.pid === undefined ? undefined : identityOf(runner.pid)
      describe(directory, { ...description, runner: identity })
      await engine.#untilUp()
      return engine
    } catch (error) {
      const said = readFileSync(join(directory, 'log'), 'utf8').slice(-LOG_TAIL_CHARS)
      await engine.end()
      throw new Error(`the engine does not start: ${(error as Error).message}\n${said}`, { cause: error })
    }
  }

  /** Of the client, on this engine. */
  run(args: readonly string[], timeoutMs: number): Promise<CommandOutput> {
    return execute(['docker', ...args], { env: this.environment, timeoutMs })
  }

  /** With all that it runs. */
  async end(): Promise<void> {
    if (this.#isRunning) {
      // In their turn they go quicker than all at once with the engine. What does not is ended with it.
      const containers = (await this.run(['ps', '-aq'], LOOK_MS_MAX)).stdout.split('\n').filter(Boolean)
      if (containers.length > 0) await this.run(['rm', '-f', '-v', ...containers], CLEARED_WITHIN_MS)
      await this.run(['network', 'prune', '-f'], CLEARED_WITHIN_MS)
      await this.#stop()
    }
    await removeEngine(this.#directory)
  }

  get #isRunning(): boolean {
    return this.#runner.pid !== undefined && this.#runner.exitCode === null && this.#runner.signalCode === null
  }

  async #untilUp(): Promise<void> {
    const untilMs = performance.now() + UP_WITHIN_MS
    while ((await this.run(['version'], LOOK_MS_MAX)).code !== 0) {
      if (!this.#isRunning) throw new Error('it has ended')
      if (performance.now() > untilMs) throw new Error(`it does not answer after ${UP_WITHIN_MS} ms`)
      await sleep(LOOK_EVERY_MS)
    }
  }

  async #stop(): Promise<void> {
    const exited = once(this.#runner, 'exit', { signal: AbortSignal.timeout(STOPPED_WITHIN_MS) })
    const first = childOf(this.#runner.pid ?? 0)
    if (first !== undefined) process.kill(first, 'SIGTERM')
    // Whoever does not stop is killed when the rest is removed.
    await exited.catch(() => undefined)
  }
}

/** What engines left behind whose test was killed. Those of tests that still run are left alone. */
export async function removeEnginesLeftBehind(): Promise<void> {
  for (const directory of ownEngines()) {
    const description = readDescription(directory)
    const isAbandoned =
      description === undefined
        ? Date.now() - statSync(directory).mtimeMs > BEGUN_MS_MAX
        : !isRunning(description.owner)
    if (isAbandoned) await removeEngine(directory)
  }
}

function ownEngines(): string[] {
  return readdirSync(tmpdir())
    .filter((name) => name.startsWith(OWN_ENGINES))
    .map((name) => join(tmpdir(), name))
}

async function removeEngine(directory: string): Promise<void> {
  const description = readDescription(directory)
  if (description !== undefined) {
    const { runner, data, controlGroup, made } = description
    if (runner !== undefined) await killed(runner)
    await removeControlGroups(controlGroup)
    await removeBridges(data)
    rmSync(data, { recursive: true, force: true })
    // Another one may have mounted on them meanwhile.
    if (ownEngines().length === 1) for (const masked of made) removeIfEmpty(masked)
  }
  rmSync(directory, { recursive: true, force: true })
}

/** With it goes the first process of the namespaces, and with that one all the others. */
async function killed(runner: ProcessIdentity): Promise<void> {
  const untilMs = performance.now() + KILLED_WITHIN_MS
  while (isRunning(runner)) {
    process.kill(runner.pid, 'SIGKILL')
    if (performance.now() > untilMs) throw new Error(`process ${runner.pid} of an engine does not end`)
    await sleep(LOOK_EVERY_MS)
  }
}

/** A bridge is named after its network, which the engine has written down. */
async function removeBridges(data: string): Promise<void> {
  const networks = join(data, 'network', 'files', 'local-kv.db')
  if (!existsSync(networks)) return
  const written = readFileSync(networks, 'latin1')
  for (const link of readdirSync('/sys/class/net').filter((name) => name.startsWith('br-'))) {
    if (written.includes(link.slice('br-'.length)))
      await execute(['ip', 'link', 'delete', link], { env: programEnvironment(), timeoutMs: LOOK_MS_MAX })
  }
}

function describeNew(directory: string): Description {
  const owner = identityOf(process.pid)
  if (owner === undefined) throw new Error('this process is not in /proc')
  const name = basename(directory)
  const description = {
    owner,
    data: join(roomyDirectory(), `${OWN_DATA}${name}`),
    controlGroup: name,
    made: MASKED.filter((masked) => !existsSync(masked)),
  }
  describe(directory, description)
  return description
}

function describe(directory: string, description: Description): void {
  writeFileSync(join(directory, DESCRIPTION), JSON.stringify(description))
}

function readDescription(directory: string): Description | undefined {
  try {
    return JSON.parse(readFileSync(join(directory, DESCRIPTION), 'utf8')) as Description
  } catch {
    return undefined
  }
}

/** On a file system that whole systems can be laid out on. */
export function roomyDirectory(): string {
  mkdirSync(CACHE, { recursive: true })
  return [tmpdir(), CACHE].find((directory) => !UNFIT_FILE_SYSTEMS.includes(statfsSync(directory).type)) ?? tmpdir()
}

function commandOf({ data, controlGroup }: Description, socket: string): [string, ...string[]] {
  // Namespaces first, and then in them the mounts, and an init that ends with the engine and waits for orphans.
  const inside = `for at in ${MASKED.join(' ')}; do mount -t tmpfs tmpfs "$at" || exit; done; exec docker-init -- dockerd "$@"`
  const namespaces = 'unshare --mount --propagation slave --pid --fork --kill-child --mount-proc'
  const quiet = '--iptables=false --ip6tables=false --ip-forward=false --ip-masq=false --bridge=none'
  // Also where systemd could make them: these groups are removed by their path.
  const groups = `--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /${controlGroup}`
  return [
    'setpriv',
    ...`--pdeathsig KILL -- ${namespaces} -- sh -c`.split(' '),
    inside,
    'sh',
    ...`${quiet} ${groups} --pidfile /run/docker/engine.pid`.split(' '),
    '--data-root',
    data,
    '--host',
    socket,
  ]
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory)
  } catch {
    // Somebody else uses it now.
  }
}
