/**
 * Watching: every change in order, each told once, over as many connections as it takes.
 *
 * The changes of one transaction share a revision, and only the last of them carries the `id` that a watch can resume
 * behind. So changes are held until their revision is whole: a connection that breaks within one loses nothing and the
 * next one repeats nothing. A watch without `from` first asks for the present revision, since a connection that breaks
 * before its first event would otherwise have no place to resume at.
 *
 * The gateway says every 15 s at which place in the changes it is, if there is nothing to tell; a watch that nothing concerns
 * so resumes close to the present, and not at a revision that is long gone. A connection that is silent for three times as long is given up and made again.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { badAnswer, brokenOff, errorFromProblem, isKvError } from './errors.ts'
import { serverSentEvents } from './event-stream.ts'
import { queryOf } from './names.ts'
import type { KvTransport } from './transport.ts'
import type { PollOptions, WatchEvent, WatchOptions } from './types.ts'

const SILENCE_MS_MAX = 45_000
const RECONNECT_MS_MAX = 60_000
const PAUSE_MS = 100
const PAUSE_MS_MAX = 2_000

export interface WatchPoll {
  readonly events: readonly WatchEvent[]
  /** Where to go on. */
  readonly next: number
}

export class KvWatches {
  readonly #transport: KvTransport
  readonly #bucketPath: string

  constructor(transport: KvTransport, bucketPath: string) {
    this.#transport = transport
    this.#bucketPath = bucketPath
  }

  async poll(options: PollOptions): Promise<WatchPoll> {
    const { prefix, from, waitSeconds: wait, limit, signal } = options
    const path = this.#bucketPath + queryOf({ watch: true, prefix, from, wait, limit })
    const headers = { accept: 'application/json' }
    return (await this.#transport.json({ method: 'GET', path, headers, idempotent: true, signal })) as WatchPoll
  }

  async *events(options: WatchOptions): AsyncGenerator<WatchEvent, void, void> {
    const { prefix, signal, reconnectMsMax = RECONNECT_MS_MAX } = options
    let from = options.from ?? (await this.poll({ prefix, waitSeconds: 0, signal })).next
    let lostMs: number | undefined
    let failures = 0
    const connected = (): void => {
      lostMs = undefined
      failures = 0
    }
    for (;;) {
      try {
        for await (const { events, next } of this.#connection({ prefix, signal, from }, connected)) {
          from = next
          yield* events
        }
      } catch (error) {
        lostMs ??= Date.now()
        if (signal?.aborted === true || !isPassing(error) || Date.now() - lostMs > reconnectMsMax) throw error
      }
      await sleep(Math.min(PAUSE_MS * 2 ** failures++, PAUSE_MS_MAX), undefined, { signal })
    }
  }

  /** Whole revisions of one connection. */
  async *#connection(
    { prefix, signal, from }: Pick<WatchOptions, 'prefix' | 'signal'> & { readonly from: number },
    connected: () => void,
  ): AsyncGenerator<WatchPoll, void, void> {
    const stream = await this.#transport.open({
      method: 'GET',
      path: this.#bucketPath + queryOf({ watch: true, prefix, from }),
      headers: { accept: 'text/event-stream' },
      // Connecting again is this file's business.
      idempotent: false,
      signal,
      alone: { idleTimeoutMs: SILENCE_MS_MAX },
    })
    connected()
    let events: WatchEvent[] = []
    try {
      for await (const { event, data, id } of serverSentEvents(stream)) {
        if (event === 'gone' || event === 'error') throw errorFromProblem(problemOf(event, data), 410)
        if (data !== undefined) events.push(parsed(data) as WatchEvent)
        if (id === undefined) continue
        yield { events, next: Number(id) + 1 }
        events = []
      }
    } catch (error) {
      throw brokenOff(error, 'a watch broke off', signal)
    }
  }
}

function problemOf(event: 'gone' | 'error', data = '{}'): Record<string, unknown> {
  const problem = parsed(data) as Record<string, unknown>
  return event === 'gone' ? { code: 'RevisionGone', ...problem } : problem
}

function parsed(data: string): unknown {
  try {
    return JSON.parse(data) as unknown
  } catch (error) {
    throw badAnswer(`an event that is not JSON: ${data.slice(0, 100)}`, error)
  }
}

/** Whether it may be over when the connection is made again. */
function isPassing(error: unknown): boolean {
  return isKvError(error) && (error.code === 'NoAnswer' || error.status === 503)
}
