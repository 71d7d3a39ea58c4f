/**
 * Linearizability under faults: small histories of KV and S3 clients that are spread over the nodes, each in buckets of its own, begun one after the other while the
 * faults go on. Those whose node is away wait for it, so a history lasts as long as it must, and the next ones do not wait for it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { must } from '../../../src/common/assert.ts'
import { runClients } from '../../linearizability/clients.ts'
import { packedKvModel } from '../../linearizability/kv-model.ts'
import { verdict } from '../../linearizability/rounds.ts'
import { runS3Clients } from '../../linearizability/s3-clients.ts'
import { s3Verdict } from '../../linearizability/shared-rounds.ts'
import type { GatewayDoors } from '../../support/gateway-process.ts'

const KV = { clients: 6, operationsEach: 15 }
const S3 = { clients: 6, operationsEach: 12 }
const PAUSE_MS_MAX = 250
const LARGE_VALUE_BYTES = 6_000
const EVERY_MS = 5_000
const AT_ONCE_MAX = 3
const IDLE_MS_MAX = 30_000
/** Longer than any fault keeps a node away. */
const AWAY_MS_MAX = 240_000
/** What a node says whose clock has jumped by more than a quarter of an hour. */
export const SKEWED = 'RequestTimeTooSkewed'
const BUCKET_MS_MAX = 60_000
const BUCKET_CALL_MS_MAX = 5_000

export interface HistoryResult {
  rounds: number
  operations: number
  unknown: number
  notDone: number
  /** In words, with the files that keep them. */
  readonly stale: string[]
  /** Of which the checker could not tell in its bounds. */
  readonly undecided: string[]
  /** Answers that no client may get. */
  readonly unexpected: string[]
}

export class Histories {
  readonly #nodes: readonly GatewayDoors[]
  #seed: number

  constructor(nodes: readonly GatewayDoors[], seed: number) {
    this.#nodes = nodes
    this.#seed = seed
  }

  /** Until the signal aborts; histories that are under way then are ended as planned. */
  async run(signal: AbortSignal): Promise<HistoryResult> {
    const result: HistoryResult = {
      rounds: 0,
      operations: 0,
      unknown: 0,
      notDone: 0,
      stale: [],
      undecided: [],
      unexpected: [],
    }
    const running = new Set<Promise<void>>()
    while (!signal.aborted) {
      const seed = this.#seed++
      const round = this.#round(seed, result).finally(() => running.delete(round))
      running.add(round)
      await sleep(EVERY_MS, undefined, { signal }).catch(() => undefined)
      if (running.size >= AT_ONCE_MAX) await Promise.race(running)
    }
    await Promise.all(running)
    return result
  }

  async #round(seed: number, result: HistoryResult): Promise<void> {
    result.rounds++
    const outcomes = await Promise.allSettled([this.#kvRound(seed, result), this.#s3Round(seed, result)])
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') sort((outcome.reason as Error).message, result)
      else {
        result.operations += outcome.value.operations
        result.unknown += outcome.value.unknown
      }
    }
  }

  async #kvRound(seed: number, result: HistoryResult): Promise<{ operations: number; unknown: number }> {
    const bucket = `kv-${seed}`
    await this.#makeBucket(bucket)
    const history = await runClients({
      ...KV,
      seed,
      bucket,
      ...this.#of(0).root,
      url: (client) => this.#of(client).http,
      largeShare: 0.5,
      largeValueBytes: LARGE_VALUE_BYTES,
      pauseMsMax: PAUSE_MS_MAX,
      idleTimeoutMs: IDLE_MS_MAX,
      reconnectMsMax: AWAY_MS_MAX,
      onNotDone: () => void result.notDone++,
    })
    return verdict(seed, history, packedKvModel)
  }

  async #s3Round(seed: number, result: HistoryResult): Promise<{ operations: number; unknown: number }> {
    const bucket = `s3-${seed}`
    await this.#makeBucket(bucket)
    const history = await runS3Clients({
      ...S3,
      seed,
      bucket,
      gateway: (client) => this.#of(client),
      largeValueBytes: LARGE_VALUE_BYTES,
      pauseMsMax: PAUSE_MS_MAX,
      reconnectMsMax: AWAY_MS_MAX,
      refusals: [SKEWED],
      onOperation: () => undefined,
      onNotDone: () => void result.notDone++,
    })
    return s3Verdict(seed, history)
  }

  #of(client: number): GatewayDoors {
    return must(this.#nodes[client % this.#nodes.length], 'a node')
  }

  /** By whichever node does it. One that did, and could not say so, has made it all the same. */
  async #makeBucket(name: string): Promise<void> {
    const deadlineMs = performance.now() + BUCKET_MS_MAX
    for (let attempt = 0; ; attempt++) {
      const { http, root } = this.#of(attempt)
      const authorization = `Basic ${Buffer.from(`${root.accessKey}:${root.secretKey}`).toString('base64')}`
      const signal = AbortSignal.timeout(BUCKET_CALL_MS_MAX)
      const said = await fetch(`${http}/kv/v1/${name}`, { method: 'PUT', headers: { authorization }, signal }).then(
        async (answer) => `${answer.status} ${await answer.text()}`,
        (error: unknown) => String(error),
      )
      if (/^(201|200|409) /.test(said)) return
      if (performance.now() > deadlineMs) throw new Error(`the bucket ${name} could not be made: ${said}`)
      await sleep(100)
    }
  }
}

function sort(message: string, { stale, undecided, unexpected }: HistoryResult): void {
  if (/not linearizable/.test(message)) stale.push(message)
  else if (/undecided/.test(message)) undecided.push(message)
  else unexpected.push(message)
}
