/**
 * Small writes and reads at each node, again and again: what a client notices of a fault. Each probe is a PUT and a GET of a fresh key.
 *
 * A client of one node that never tries again shows stalls and errors. Is its probe refused, a client that retries, as SDKs do, takes it over: it goes round the
 * nodes' addresses with growing pauses, up to so many attempts.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { must } from '../../../src/common/assert.ts'

const EVERY_MS = 200
const PROBE_MS_MAX = 5_000
const ATTEMPTS_MAX = 10
const FIRST_PAUSE_MS = 100
const PAUSE_MS_MAX = 2_000
/** Probes at once that are tried again, of each node. */
const RETRYING_MAX = 8
/** Too many to lie in the metadata. */
const BODY_BYTES = 2_048

export interface ProbeCounts {
  probes: number
  /** Of the clients that never try again, by node. */
  readonly errors: number[]
  /** Of those that do. */
  readonly errorsWithRetries: number[]
  /** The longest time without a success of the client that never tries again, by node. */
  readonly stallMs: number[]
  readonly reasons: Map<string, number>
  /** In words, each that did not find what it had just put there. */
  readonly stale: string[]
}

interface ProbeOptions {
  readonly bucket: string
  /** Of each node, without retries of their own. */
  readonly clients: readonly S3Client[]
}

export class Probes {
  readonly #options: ProbeOptions
  #probed = 0

  constructor(options: ProbeOptions) {
    this.#options = options
  }

  /** Until the signal aborts. */
  async run(name: string, signal: AbortSignal): Promise<ProbeCounts> {
    const zeros = (): number[] => this.#options.clients.map(() => 0)
    const counts: ProbeCounts = {
      probes: 0,
      errors: zeros(),
      errorsWithRetries: zeros(),
      stallMs: zeros(),
      reasons: new Map(),
      stale: [],
    }
    await Promise.all(this.#options.clients.map((_, node) => this.#probeNode(node, { name, signal, counts })))
    return counts
  }

  async #probeNode(
    node: number,
    { name, signal, counts }: { readonly name: string; readonly signal: AbortSignal; readonly counts: ProbeCounts },
  ): Promise<void> {
    const retrying = new Set<Promise<void>>()
    let lastMs = performance.now()
    const succeeded = (): void => {
      const nowMs = performance.now()
      counts.stallMs[node] = Math.max(counts.stallMs[node] ?? 0, nowMs - lastMs)
      lastMs = nowMs
    }
    while (!signal.aborted) {
      const nextMs = performance.now() + EVERY_MS
      const key = `probes/${name}/${this.#probed++}`
      counts.probes++
      try {
        await this.#probe(node, key)
        succeeded()
      } catch (error) {
        add(counts.errors, node)
        if (error instanceof NotThere) counts.stale.push(`node ${node}: ${error.message}`)
        const reason = reasonOf(error)
        counts.reasons.set(reason, (counts.reasons.get(reason) ?? 0) + 1)
        const retry = this.#retry(node, key).then((isDone) => {
          if (!isDone) add(counts.errorsWithRetries, node)
          retrying.delete(retry)
        })
        retrying.add(retry)
        if (retrying.size >= RETRYING_MAX) await Promise.race(retrying)
      }
      await sleep(Math.max(0, nextMs - performance.now()))
    }
    succeeded()
    await Promise.all(retrying)
  }

  async #retry(node: number, key: string): Promise<boolean> {
    const { clients } = this.#options
    for (let attempt = 1; attempt < ATTEMPTS_MAX; attempt++) {
      const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (attempt - 1), PAUSE_MS_MAX)
      await sleep(pauseMs / 2 + (Math.random() * pauseMs) / 2)
      const isDone = await this.#probe((node + attempt) % clients.length, key).then(
        () => true,
        () => false,
      )
      if (isDone) return true
    }
    return false
  }

  async #probe(node: number, key: string): Promise<void> {
    const client = must(this.#options.clients[node], 'a client')
    const address = { Bucket: this.#options.bucket, Key: key }
    const body = key.padEnd(BODY_BYTES)
    const deadline = { abortSignal: AbortSignal.timeout(PROBE_MS_MAX) }
    await client.send(new PutObjectCommand({ ...address, Body: body }), deadline)
    const found = await client.send(new GetObjectCommand(address), deadline).catch((error: unknown) => {
      if ((error as Error).name === 'NoSuchKey') return undefined
      throw error
    })
    if ((await found?.Body?.transformToString()) !== body)
      throw new NotThere(`${key} ${found === undefined ? 'is not there' : 'holds something else'} after it was put`)
  }
}

class NotThere extends Error {}

function add(counts: number[], node: number): void {
  counts[node] = (counts[node] ?? 0) + 1
}

function reasonOf(error: unknown): string {
  const { code, name, message } = error as NodeJS.ErrnoException
  const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode
  return [status, code ?? name, status === undefined ? undefined : message].filter(Boolean).join(' ').slice(0, 160)
}
