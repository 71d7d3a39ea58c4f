/**
 * Histories of clients that work through several gateways over one etcd of three members, while faults befall these (faults.ts), and the verdicts: in each round one of
 * KV clients and one of S3 clients, in buckets of their own. Two gateways that know nothing of each other take values that lie in the metadata. Three that are
 * neighbours take larger ones as well, each acknowledged when it lies in two journals, so that it can be read while its gateway is away; and some of
 * them are lost.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { must } from '../../src/common/assert.ts'
import { Random } from '../model/random.ts'
import { CuttableNetwork } from '../support/cuttable-network.ts'
import { EtcdCluster } from '../support/etcd-member.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../support/gateway-process.ts'
import { checkLinearizable } from './checker.ts'
import { runClients } from './clients.ts'
import {
  FaultDriver,
  FAULTS,
  LOST_NODE_FAULTS,
  nameMembers,
  NODE_FAULTS,
  planFaults,
  type Fault,
  type Surroundings,
} from './faults.ts'
import { packedKvModel } from './kv-model.ts'
import { verdict } from './rounds.ts'
import { runS3Clients } from './s3-clients.ts'
import { s3Model, withSeenWritten, type S3Entry } from './s3-model.ts'

export interface SharedRoundOptions {
  readonly seed: number
  /** How many faults; by default some. */
  readonly faults?: number
  /** Some faults last longer than anybody waits. */
  readonly long?: boolean | undefined
}

export interface SharedRoundResult {
  readonly operations: number
  /** Whose outcome was never known. */
  readonly unknown: number
  /** That the gateway said were not done, and that left no trace. */
  readonly notDone: number
  readonly configurations: number
  readonly faults: readonly Fault[]
}

export interface SharedRoundsOptions {
  /** Three gateways that keep and fetch bytes for each other. */
  readonly neighbours?: boolean
}

const MEMBERS = 3
const KV = { clients: 12, operationsEach: 20 }
const S3 = { clients: 8, operationsEach: 20 }
export const OPERATIONS_A_ROUND = KV.clients * KV.operationsEach + S3.clients * S3.operationsEach
const FAULTS_A_ROUND = 4
const PAUSE_MS_MAX = 60
const LARGE_VALUE_BYTES = 400
/** Too many to lie in the metadata. */
const SEGMENT_VALUE_BYTES = 6_000
const NEIGHBOUR_FLAGS = Object.entries({
  '--neighbour': '127.0.0.1:0',
  '--node-grace': '3s',
  '--ack': 'replicated',
  '--segment-age': '1s',
  '--hash-workers': '1',
}).flat()
/** For how long a client looks for its gateway: all faults of a round may befall one, each right after the other, and each takes up to half a minute. */
const RECONNECT_MS_MAX = 150_000
/** One that was paused past its grace learns so as soon as it goes on. */
const ENDS_MS_MAX = 30_000
const S3_CONFIGURATIONS_MAX = 500_000
const ETCD_FLAGS = ['--heartbeat-interval=50', '--election-timeout=500']

export class SharedRounds {
  readonly #directory = mkdtempSync(join(tmpdir(), 'tidegate-linearizability-'))
  readonly #root = randomCredentials()
  readonly #gateways: GatewayProcess[] = []
  readonly #network = new CuttableNetwork()
  readonly #count: number
  readonly #areNeighbours: boolean
  #surroundings: Surroundings | undefined

  constructor({ neighbours = false }: SharedRoundsOptions = {}) {
    this.#areNeighbours = neighbours
    this.#count = neighbours ? 3 : 2
  }

  async start(): Promise<void> {
    const network = this.#network
    const cluster = await EtcdCluster.start({
      directory: join(this.#directory, 'etcd'),
      members: MEMBERS,
      flags: ETCD_FLAGS,
      peerUrlFor: (name, listensAt) => network.wire(name, listensAt),
    })
    this.#surroundings = { cluster, network, gateways: this.#faultyGateways() }
    await nameMembers(this.#surroundings)
    for (let index = 0; index < this.#count; index++) this.#gateways.push(await this.#startGateway(index))
  }

  /** @throws Error with the seed when a history is not linearizable */
  async run({ seed, faults = FAULTS_A_ROUND, long }: SharedRoundOptions): Promise<SharedRoundResult> {
    await this.#makeBucket(`kv-${seed}`)
    await this.#makeBucket(`s3-${seed}`)
    const { accessKey, secretKey } = this.#root
    const planned =
      faults === 0
        ? []
        : planFaults(new Random(seed), {
            count: faults,
            operations: OPERATIONS_A_ROUND,
            long,
            ...(this.#areNeighbours ? { kinds: NODE_FAULTS, longKinds: LOST_NODE_FAULTS } : { kinds: FAULTS }),
          })
    const driver = new FaultDriver(must(this.#surroundings, 'a start'), planned)
    let notDone = 0
    const common = {
      seed,
      pauseMsMax: PAUSE_MS_MAX,
      reconnectMsMax: RECONNECT_MS_MAX,
      onOperation: () => driver.operationDone(),
      onNotDone: () => void notDone++,
    }
    const largeValueBytes = this.#areNeighbours ? SEGMENT_VALUE_BYTES : LARGE_VALUE_BYTES
    const largeShare = this.#areNeighbours ? 0.5 : undefined
    const ofKv = { url: (client: number) => this.#of(client % this.#count).http, largeValueBytes, largeShare }
    const ofS3 = {
      gateway: (client: number) => this.#of(client % this.#count),
      largeValueBytes: this.#areNeighbours ? SEGMENT_VALUE_BYTES : undefined,
    }
    // Both end, whatever comes of them: who went on would bring faults upon the next round.
    const [kvClients, s3Clients] = await Promise.allSettled([
      runClients({ ...common, ...KV, ...ofKv, bucket: `kv-${seed}`, accessKey, secretKey }),
      runS3Clients({ ...common, ...S3, ...ofS3, bucket: `s3-${seed}` }),
    ])
    await driver.done()
    const [kvHistory, s3History] = [valueOf(kvClients), valueOf(s3Clients)]
    const kv = verdict(seed, kvHistory, packedKvModel)
    const s3 = s3Verdict(seed, s3History)
    return {
      operations: kv.operations + s3.operations + notDone,
      unknown: kv.unknown + s3.unknown,
      notDone,
      configurations: kv.configurations + s3.configurations,
      faults: planned.map(({ fault }) => fault),
    }
  }

  async end(): Promise<void> {
    await Promise.all(this.#gateways.map((gateway) => gateway.stop()))
    await this.#surroundings?.cluster.remove()
    this.#network.close()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async #makeBucket(name: string): Promise<void> {
    const { accessKey, secretKey } = this.#root
    const authorization = `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
    const made = await fetch(`${this.#of(0).http}/kv/v1/${name}`, { method: 'PUT', headers: { authorization } })
    if (made.status !== 201) throw new Error(`the bucket could not be made: ${await made.text()}`)
  }

  #faultyGateways(): Surroundings['gateways'] {
    return {
      count: this.#count,
      name: gatewayName,
      pause: (index) => void this.#of(index).child.kill('SIGSTOP'),
      resume: (index) => void this.#of(index).child.kill('SIGCONT'),
      kill: (index) => this.#of(index).kill(),
      ends: (index) => hasEnded(this.#of(index)),
      start: async (index) => {
        this.#gateways[index] = await this.#startGateway(index)
      },
    }
  }

  #of(index: number): GatewayProcess {
    return must(this.#gateways[index], 'gateway')
  }

  async #startGateway(index: number): Promise<GatewayProcess> {
    const { cluster } = must(this.#surroundings, 'a start')
    const wires = cluster.members.map(({ name, endpoint }) => this.#network.wire(name, endpoint, gatewayName(index)))
    const endpoints = (await Promise.all(wires)).map((endpoint) => new URL(endpoint).host)
    return await startGateway({
      data: join(this.#directory, `data${index}`),
      root: this.#root,
      logFile: join(this.#directory, `log${index}`),
      flags: [
        '--meta',
        `etcd://${endpoints.join(',')}`,
        '--cache-memory',
        '64MiB',
        ...(this.#areNeighbours ? NEIGHBOUR_FLAGS : []),
      ],
    })
  }
}

function valueOf<Value>(outcome: PromiseSettledResult<Value>): Value {
  if (outcome.status === 'rejected') throw outcome.reason
  return outcome.value
}

async function hasEnded({ child }: GatewayProcess): Promise<boolean> {
  if (child.exitCode === null && child.signalCode === null)
    await once(child, 'exit', { signal: AbortSignal.timeout(ENDS_MS_MAX) }).catch(() => undefined)
  return child.exitCode !== null || child.signalCode !== null
}

function gatewayName(index: number): string {
  return `gateway ${index}`
}

/** @throws Error that names the file in which the history was kept */
export function s3Verdict(
  seed: number,
  history: readonly S3Entry[],
): Pick<SharedRoundResult, 'operations' | 'unknown' | 'configurations'> {
  const kept = join(tmpdir(), `tidegate-s3-history-${seed}.json`)
  const fail = (what: string, cause?: unknown): never => {
    writeFileSync(kept, JSON.stringify(history))
    throw new Error(`seed ${seed}, S3: ${what} (${kept})`, { cause })
  }
  let checked
  try {
    checked = checkLinearizable(s3Model, withSeenWritten(history), S3_CONFIGURATIONS_MAX)
  } catch (error) {
    return fail((error as Error).message, error)
  }
  if (!checked.linearizable)
    return fail(`not linearizable: ${checked.stuck.map((entry) => JSON.stringify(entry)).join('\n')}`)
  return {
    operations: history.length,
    unknown: history.filter((entry) => entry.output === undefined).length,
    configurations: checked.configurations,
  }
}
