/**
 * `GET /kv/v1/{bucket}?watch=true`: every change in order, from a revision on. As server-sent events when the client accepts
 * them, else as one answer with what there is, or what comes within a while (long poll).
 *
 * It has its route in common with the scan (scan-or-watch.ts), whose schema knows the parameters of both: those of the scan are
 * refused here. Watching shows keys, so it needs what listing needs.
 */
import { TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import type { WatcherId } from '../../store/kv-types.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { authorize, type KvDoor } from './door.ts'
import { badParameter, wholeNumber, type BucketParams, type Query } from './parameters.ts'
import { batchDocument, resumedFrom } from './watch-events.ts'
import { streamChanges } from './watch-stream.ts'

const WAIT_SECONDS_DEFAULT = 30
const WAIT_SECONDS_MAX = 60
const LIMIT_DEFAULT = 1_000
const LIMIT_MAX = 10_000

const STREAM_PARAMETERS = {
  watch: { type: 'string', enum: ['true', 'false'], description: 'Watch instead of scan.' },
  from: { type: 'string', description: 'First revision wanted; without it, what is committed from now on.' },
  prefix: { type: 'string', description: 'Only keys that start with it.' },
} as const

/** For the schema of the route. */
export const WATCH_PARAMETERS = {
  ...STREAM_PARAMETERS,
  wait: { type: 'string', description: 'Long poll: seconds to wait for a change, 0 to 60; default 30.' },
  limit: { type: 'string', description: 'Long poll: events at most, 1 to 10,000; default 1,000.' },
} as const

export type WatchRequest = FastifyRequest<{ Params: BucketParams; Querystring: Query }>

/** @throws AccessDenied, InvalidArgument, NoSuchBucket, RevisionGone, SlowDown */
export async function watchBucket(door: KvDoor, request: WatchRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { bucket } = request.params
  const { query } = request
  request.exchange.operation = 'KvWatch'
  const prefix = query['prefix'] ?? ''
  authorize(door, request, { action: 's3:ListBucket', resource: { bucket }, extra: { 's3:prefix': query['prefix'] } })
  const streamed = (request.headers.accept ?? '').toLowerCase().includes('text/event-stream')
  refuseOthers(query, streamed ? STREAM_PARAMETERS : WATCH_PARAMETERS)
  const poll = streamed ? undefined : pollOf(query)
  // Named even when the client names none, so that it can be told where to resume.
  const from = (streamed ? lastSeen(request) : undefined) ?? firstWanted(query) ?? door.store.watching.revision() + 1
  const watcher = await door.store.watching.open({ bucket, prefix, from })
  if (poll) return answerPoll(door, { request, reply, watcher, ...poll })
  const headers = reply.getHeaders()
  reply.hijack()
  const { exchange } = request
  const { watching } = door.store
  await streamChanges({ watching, watcher, from, exchange, draining: door.draining, headers }).catch((error: unknown) =>
    door.sendProblem(exchange, error),
  )
  return reply
}

interface Poll {
  readonly waitMs: number
  readonly limit: number
}

function pollOf(query: Query): Poll {
  const seconds = wholeNumber(query, 'wait', { min: 0, max: WAIT_SECONDS_MAX, fallback: WAIT_SECONDS_DEFAULT })
  return {
    waitMs: seconds * 1_000,
    limit: wholeNumber(query, 'limit', { min: 1, max: LIMIT_MAX, fallback: LIMIT_DEFAULT }),
  }
}

function refuseOthers(query: Query, known: object): void {
  for (const [name, value = ''] of Object.entries(query)) {
    if (!Object.hasOwn(known, name)) throw badParameter(name, value, 'is not for this kind of watch')
  }
}

function firstWanted(query: Query): Revision | undefined {
  if (query['from'] === undefined) return undefined
  return wholeNumber(query, 'from', { min: 0, max: Number.MAX_SAFE_INTEGER, fallback: 0 })
}

/** Browsers come back with the URL that they began with, so what they have seen since counts more than `from`. */
function lastSeen(request: WatchRequest): Revision | undefined {
  const header = request.headers['last-event-id']
  if (header === undefined) return undefined
  const from = typeof header === 'string' ? resumedFrom(header) : undefined
  if (from !== undefined) return from
  throw new TidegateError('InvalidArgument', `Last-Event-ID ${JSON.stringify(header)} is no revision`, {
    details: { header: 'Last-Event-ID' },
  })
}

async function answerPoll(
  door: KvDoor,
  call: Poll & { readonly request: WatchRequest; readonly reply: FastifyReply; readonly watcher: WatcherId },
): Promise<FastifyReply> {
  const { request, reply, watcher, waitMs, limit } = call
  const { watching } = door.store
  const close = (): void => watching.close(watcher)
  request.exchange.response.once('close', close)
  door.draining.addEventListener('abort', close, { once: true })
  try {
    const wait = door.draining.aborted || request.exchange.response.destroyed ? 0 : waitMs
    const body = Buffer.from(batchDocument(await watching.next(watcher, { waitMs: wait, limit })))
    request.exchange.bytesOut += body.length
    return reply.type('application/json').send(body)
  } finally {
    door.draining.removeEventListener('abort', close)
    request.exchange.response.off('close', close)
    close()
  }
}
