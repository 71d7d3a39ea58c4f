/** One history: a gateway of its own process, 16 clients as the seed says, perhaps a SIGKILL in between, and the verdict. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Random } from '../model/random.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../support/gateway-process.ts'
import { checkLinearizable } from './checker.ts'
import { runClients, type KvHistory } from './clients.ts'
import { kvModel, withLearnedOutcomes, type KvModel } from './kv-model.ts'

export interface RoundOptions {
  readonly seed: number
  /** How often the gateway is killed and started again on the same data while the clients work. */
  readonly kills: number
}

export interface RoundResult {
  readonly operations: number
  /** Whose outcome was never known. */
  readonly unknown: number
  readonly configurations: number
}

const CLIENTS = 16
const OPERATIONS_EACH = 20

/** Runs many rounds on one gateway where nothing is killed, each in a bucket of its own. */
export class Rounds {
  readonly #directory = mkdtempSync(join(tmpdir(), 'tidegate-linearizability-'))
  readonly #root = randomCredentials()
  #gateway: GatewayProcess | undefined

  /** @throws Error with the seed when the history is not linearizable */
  async run({ seed, kills }: RoundOptions): Promise<RoundResult> {
    this.#gateway ??= await this.#start()
    const bucket = `round-${seed}`
    const { accessKey, secretKey } = this.#root
    const authorization = `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
    const made = await fetch(`${this.#gateway.http}/kv/v1/${bucket}`, { method: 'PUT', headers: { authorization } })
    if (made.status !== 201) throw new Error(`the bucket could not be made: ${await made.text()}`)
    const killer = new Killer({ seed, kills, operations: CLIENTS * OPERATIONS_EACH, restart: () => this.#restart() })
    const history = await runClients({
      url: () => this.#gateway?.http ?? '',
      bucket,
      accessKey,
      secretKey,
      seed,
      clients: CLIENTS,
      operationsEach: OPERATIONS_EACH,
      onOperation: () => killer.operationDone(),
    })
    await killer.done()
    return verdict(seed, history)
  }

  async end(): Promise<void> {
    await this.#gateway?.stop()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  #start(): Promise<GatewayProcess> {
    return startGateway({
      data: join(this.#directory, 'data'),
      root: this.#root,
      logFile: join(this.#directory, 'log'),
      flags: ['--cache-memory', '64MiB'],
    })
  }

  async #restart(): Promise<void> {
    await this.#gateway?.kill()
    this.#gateway = await this.#start()
  }
}

/** Kills after numbers of operations that the seed chooses, spread over the history. */
class Killer {
  readonly #at: number[] = []
  readonly #restart: () => Promise<void>
  #operations = 0
  #restarting: Promise<void> = Promise.resolve()

  constructor(options: { seed: number; kills: number; operations: number; restart: () => Promise<void> }) {
    const random = new Random(options.seed)
    const span = Math.floor(options.operations / (options.kills + 1))
    for (let kill = 0; kill < options.kills; kill++)
      this.#at.push(kill * span + Math.floor(span / 2) + random.below(span))
    this.#restart = options.restart
  }

  operationDone(): void {
    this.#operations++
    if (this.#at[0] === undefined || this.#operations < this.#at[0]) return
    this.#at.shift()
    this.#restarting = this.#restarting.then(this.#restart)
    this.#restarting.catch(() => undefined)
  }

  async done(): Promise<void> {
    await this.#restarting
  }
}

/** @throws Error that names the file in which the history was kept */
export function verdict(seed: number, history: KvHistory, model: KvModel = kvModel): RoundResult {
  const kept = (): string => {
    const path = join(tmpdir(), `tidegate-history-${seed}.json`)
    writeFileSync(path, JSON.stringify(history))
    return path
  }
  let checked
  try {
    checked = checkLinearizable(model, withLearnedOutcomes(history))
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message} (${kept()})`, { cause: error })
  }
  if (!checked.linearizable) {
    const stuck = checked.stuck.map((entry) => JSON.stringify(entry)).join('\n')
    const where = `the way that came furthest ends before\n${stuck}\nThe history is in ${kept()}`
    throw new Error(`seed ${seed}: the history is not linearizable; ${where}`)
  }
  return {
    operations: history.length,
    unknown: history.filter((entry) => entry.output === undefined).length,
    configurations: checked.configurations,
  }
}
