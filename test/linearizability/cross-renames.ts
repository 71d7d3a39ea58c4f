/** Two processes that rename directories across each other over one etcd, and the tree that they leave (tree-check.ts); while members are killed, if wanted. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { must } from '../../src/common/assert.ts'
import type { InodeId } from '../../src/common/ids.ts'
import { Random } from '../model/random.ts'
import { CuttableNetwork } from '../support/cuttable-network.ts'
import { EtcdCluster } from '../support/etcd-member.ts'
import { FaultDriver, nameMembers, planFaults, type Fault, type Surroundings } from './faults.ts'
import type { RenamerAnswer, RenamerOptions, RenamerOrder } from './renamer.ts'

const PROGRAM = fileURLToPath(new URL('renamer.ts', import.meta.url))
const ANSWER_MS_MAX = 120_000
const PROCESSES = 2
const MEMBERS = 3
const DIRECTORIES = 5
const BUCKET = 'tree'
const KINDS: readonly Fault[] = ['member killed', 'leader killed', 'leader paused', 'leader cut off']
/** Orders of few renames each, so that what befalls members is spread over them. */
const RENAMES_AN_ORDER = 10

export interface RenameResult {
  readonly done: number
  readonly refused: Readonly<Record<string, number>>
  readonly faults: readonly Fault[]
}

export class CrossRenames {
  readonly #directory = mkdtempSync(join(tmpdir(), 'tidegate-renames-'))
  readonly #network = new CuttableNetwork()
  readonly #renamers: RenamerProcess[] = []
  #surroundings: Surroundings | undefined
  #directories: readonly InodeId[] = []

  async start(): Promise<void> {
    const network = this.#network
    const cluster = await EtcdCluster.start({
      directory: join(this.#directory, 'etcd'),
      members: MEMBERS,
      flags: ['--heartbeat-interval=50', '--election-timeout=500'],
      peerUrlFor: (name, listensAt) => network.wire(name, listensAt),
    })
    this.#surroundings = { cluster, network, gateways: NO_GATEWAYS }
    await nameMembers(this.#surroundings)
    for (let index = 0; index < PROCESSES; index++) {
      const data = join(this.#directory, `data${index}`)
      const { endpoints } = cluster
      this.#renamers.push(await RenamerProcess.start({ endpoints, data, node: index + 1, bucket: BUCKET }))
    }
    const { made = [] } = await must(this.#renamers[0], 'a process').order({ kind: 'make', directories: DIRECTORIES })
    this.#directories = made
  }

  /** @throws Error with the seed when the tree is none afterwards, or the two do not see the same */
  async run({ seed, renames, faults }: { seed: number; renames: number; faults: number }): Promise<RenameResult> {
    const orders = Math.ceil(renames / RENAMES_AN_ORDER)
    const random = new Random(seed)
    const planned =
      faults === 0 ? [] : planFaults(random, { count: faults, operations: orders * PROCESSES, kinds: KINDS })
    const driver = new FaultDriver(must(this.#surroundings, 'a start'), planned)
    const refused: Record<string, number> = {}
    let done = 0
    const work = async (renamer: RenamerProcess, index: number): Promise<void> => {
      for (let order = 0; order < orders; order++) {
        const answer = await renamer.order({
          kind: 'rename',
          seed: (seed * PROCESSES + index) * 1009 + order,
          directories: this.#directories,
          renames: RENAMES_AN_ORDER,
        })
        done += answer.done ?? 0
        for (const [code, count] of Object.entries(answer.refused ?? {})) refused[code] = (refused[code] ?? 0) + count
        driver.operationDone()
      }
    }
    await Promise.all(this.#renamers.map(work))
    await driver.done()
    await this.#check(seed)
    return { done, refused, faults: planned.map(({ fault }) => fault) }
  }

  async end(): Promise<void> {
    await Promise.all(this.#renamers.map((renamer) => renamer.end()))
    await this.#surroundings?.cluster.remove()
    this.#network.close()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async #check(seed: number): Promise<void> {
    const answers: RenamerAnswer[] = []
    for (const renamer of this.#renamers)
      answers.push(await renamer.order({ kind: 'check', directories: this.#directories }))
    const faults = answers.flatMap((answer) => answer.faults ?? ['no answer'])
    const trees = new Set(answers.map(({ tree }) => tree))
    if (trees.size > 1) faults.push(`the processes see two trees: ${[...trees].join(' and ')}`)
    if (faults.length > 0) throw new Error(`seed ${seed}: ${faults.join('; ')}\n${[...trees].join('\n')}`)
  }
}

const NO_GATEWAYS: Surroundings['gateways'] = {
  count: 1,
  name: () => '',
  pause: () => undefined,
  resume: () => undefined,
  kill: () => Promise.resolve(),
  ends: () => Promise.resolve(true),
  start: () => Promise.resolve(),
}

class RenamerProcess {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  static async start(options: RenamerOptions): Promise<RenamerProcess> {
    const child = spawn(process.execPath, [PROGRAM, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'inherit'] })
    const started = new RenamerProcess(child)
    await started.#answer()
    return started
  }

  private constructor(child: ChildProcess) {
    this.#child = child
    child.stdin?.on('error', () => undefined)
    this.#lines = createInterface({ input: must(child.stdout, 'output') })[Symbol.asyncIterator]()
  }

  async order(order: RenamerOrder): Promise<RenamerAnswer> {
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`)
    return await this.#answer()
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve))
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.stdin?.end()
    const overdue = setTimeout(() => this.#child.kill('SIGKILL'), ANSWER_MS_MAX)
    await ended
    clearTimeout(overdue)
  }

  async #answer(): Promise<RenamerAnswer> {
    const overdue = setTimeout(() => this.#child.kill('SIGKILL'), ANSWER_MS_MAX)
    const { value, done } = await this.#lines.next()
    clearTimeout(overdue)
    if (done === true) throw new Error('a renaming process has ended')
    return JSON.parse(value) as RenamerAnswer
  }
}
