/**
 * One watcher's event stream: from the head of the answer until the client leaves, the port drains, the changes cannot be
 * told any more, or an hour is over: a token that was revoked meanwhile must not watch for ever.
 *
 * Nothing is buffered for a client that does not read: while its socket is full the watcher is not asked, so its place
 * simply stays behind, and after `STALLED_MS_MAX` it is cut off. It can resume where it was.
 */
import type { ServerResponse } from 'node:http'
import { isTidegateError } from '../../common/errors.ts'
import type { Watching } from '../../store/doors.ts'
import type { WatcherId } from '../../store/kv-types.ts'
import type { Revision } from '../../common/ids.ts'
import type { DoorExchange } from '../http/exchange.ts'
import { problemDocument, problemOf } from '../http/problem.ts'
import { COME_BACK, GOING_AWAY, eventBlocks, placeBlock, problemBlock } from './watch-events.ts'

/** Well below what proxies, and the port itself, allow a connection to be silent. */
const HEARTBEAT_MS = 15_000
const STALLED_MS_MAX = 120_000
/** After so long a client must come back, with credentials that are still good. */
const STREAM_MS_MAX = 60 * 60_000
/** Of one batch; a client that has fallen behind is sent so many at a time. */
const EVENTS_MAX = 1_000

export interface WatchStream {
  readonly watching: Watching
  readonly watcher: WatcherId
  /** First revision that the client wants. */
  readonly from: Revision
  readonly exchange: DoorExchange
  readonly draining: AbortSignal
  /** What the port says in every answer. */
  readonly headers: Readonly<Record<string, number | string | string[] | undefined>>
  readonly heartbeatMs?: number | undefined
  readonly stalledMsMax?: number | undefined
}

/** Resolves when the stream has ended, and the watcher is closed. Rejects with what is a bug. */
export async function streamChanges(stream: WatchStream): Promise<void> {
  const { watching, watcher, exchange, draining } = stream
  const { response } = exchange
  const ending = new AbortController()
  const end = (): void => {
    ending.abort()
    watching.close(watcher)
  }
  response.once('close', end)
  draining.addEventListener('abort', end, { once: true })
  const timer = setTimeout(end, STREAM_MS_MAX).unref()
  // What happened before anybody listened.
  if (draining.aborted || response.destroyed) end()
  try {
    response.writeHead(200, { ...stream.headers, ...STREAM_HEADERS })
    await send(stream, placeBlock(stream.from), ending.signal)
    await tellAll(stream, ending.signal)
    if (!response.destroyed) response.end(draining.aborted ? GOING_AWAY : COME_BACK)
  } catch (error) {
    endWithProblem(exchange, error)
  } finally {
    clearTimeout(timer)
    draining.removeEventListener('abort', end)
    response.off('close', end)
    watching.close(watcher)
  }
}

const STREAM_HEADERS = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-store, no-transform',
  // nginx would hold events back until its buffer is full.
  'x-accel-buffering': 'no',
}

async function tellAll(stream: WatchStream, ending: AbortSignal): Promise<void> {
  const { watching, watcher, exchange, heartbeatMs = HEARTBEAT_MS } = stream
  // A response that was cut off says so at once, and closes a turn later.
  while (!ending.aborted && !exchange.response.destroyed) {
    const batch = await watching.next(watcher, { waitMs: heartbeatMs, limit: EVENTS_MAX })
    if (ending.aborted) return
    await send(stream, batch.events.length > 0 ? eventBlocks(batch) : placeBlock(batch.next), ending)
  }
}

async function send(stream: WatchStream, block: Buffer | string, ending: AbortSignal): Promise<void> {
  const { exchange, stalledMsMax = STALLED_MS_MAX } = stream
  const { response } = exchange
  if (response.destroyed) return
  exchange.bytesOut += block.length
  if (response.write(block)) return
  await roomAgain(response, ending, stalledMsMax)
}

/** Resolves when the client has read on, or the stream is over. Cuts off a client that does not read. */
function roomAgain(response: ServerResponse, ending: AbortSignal, stalledMsMax: number): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer)
      response.off('drain', finish)
      ending.removeEventListener('abort', finish)
      resolve()
    }
    const timer = setTimeout(() => {
      response.destroy()
      finish()
    }, stalledMsMax)
    timer.unref()
    response.once('drain', finish)
    ending.addEventListener('abort', finish, { once: true })
    if (ending.aborted) finish()
  })
}

/** The client learns why, and resumes where it is; but behind what is gone it has to scan again. */
function endWithProblem(exchange: DoorExchange, error: unknown): void {
  const { response, requestId } = exchange
  const problem = problemOf(error)
  if (problem === undefined) throw error
  exchange.errorCode = problem.code
  if (response.destroyed) return
  const event = isTidegateError(error, 'RevisionGone') ? 'gone' : 'error'
  response.end(problemBlock(event, problemDocument(problem, requestId)))
}
