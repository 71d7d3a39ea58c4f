/**
 * Changes as clients read them: one JSON object each (docs/kv.md, "Watch"), and as server-sent events.
 *
 * In an event stream only the last event of a revision has an `id`, the revision: so `Last-Event-ID` is always a whole revision,
 * and a client that resumes behind it misses nothing and is told nothing twice. A block with an `id` and nothing else sets the
 * client's place without an event (WHATWG HTML, "server-sent events"): it begins the stream, so that one which breaks before its
 * first event can resume, and comes with every heartbeat, so that the place of a quiet watcher moves on.
 *
 * An event goes to any number of watchers, and often the same batch does: each is encoded once.
 */
import type { Revision } from '../../common/ids.ts'
import type { WatchBatch, WatchEvent } from '../../store/kv-types.ts'

/** A place that the client will name when it comes back. */
const LAST_EVENT_ID = /^\d{1,15}$/

const documents = new WeakMap<WatchEvent, string>()
const blocks = new WeakMap<readonly WatchEvent[], Buffer>()

export function eventDocument(event: WatchEvent): string {
  const known = documents.get(event)
  if (known !== undefined) return known
  const document = JSON.stringify(members(event))
  documents.set(event, document)
  return document
}

function members(event: WatchEvent): object {
  const { kind: type, revision } = event
  switch (event.kind) {
    case 'put': {
      const { key, etag, size, expiresMs } = event
      const expires = expiresMs === undefined ? {} : { expires: new Date(expiresMs).toISOString() }
      return { type, revision, key, etag, size, ...expires }
    }
    case 'delete':
      return { type, revision, key: event.key }
    case 'renamed':
      return { type, revision, from: event.from, to: event.to }
  }
}

/** The answer of a long poll. */
export function batchDocument({ events, next }: WatchBatch): string {
  return `{"events":[${events.map(eventDocument).join(',')}],"next":${next}}`
}

/** The blocks of an event stream. Not to be changed: others may be sent the same. */
export function eventBlocks({ events }: WatchBatch): Buffer {
  const known = blocks.get(events)
  if (known !== undefined) return known
  let text = ''
  events.forEach((event, index) => {
    if (events[index + 1]?.revision !== event.revision) text += `id: ${event.revision}\n`
    text += `event: ${event.kind}\ndata: ${eventDocument(event)}\n\n`
  })
  const encoded = Buffer.from(text)
  blocks.set(events, encoded)
  return encoded
}

/** Says where to resume, and that the stream is alive. */
export function placeBlock(next: Revision): string {
  return `:\nid: ${next - 1}\n\n`
}

export function problemBlock(event: 'gone' | 'error', document: string): string {
  return `event: ${event}\ndata: ${document}\n\n`
}

export const GOING_AWAY = ': the server is going away\n\n'
export const COME_BACK = ': resume behind the last id\n\n'

/** The first revision wanted by who has seen the one named; undefined when the header is not one of ours. */
export function resumedFrom(lastEventId: string): Revision | undefined {
  return LAST_EVENT_ID.test(lastEventId) ? Number(lastEventId) + 1 : undefined
}
