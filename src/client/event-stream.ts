/**
 * Server-sent events (WHATWG HTML, 9.2.6), as far as this API uses them: `id`, `event`, `data` and comments. An event ends
 * with an empty line; one that the connection cuts off is dropped.
 */
import { linesOf } from './lines.ts'

/** A change names one key or two, of 16 KiB with every character escaped, and little more. */
const LINE_BYTES_MAX = 256 * 1024

export interface ServerSentEvent {
  /** `message` when it has none. */
  readonly event: string
  /** Undefined when it has none: it then only says, by its id, where to resume. */
  readonly data: string | undefined
  /** Of this event itself; undefined when it has none. */
  readonly id: string | undefined
}

export async function* serverSentEvents(stream: AsyncIterable<Buffer>): AsyncGenerator<ServerSentEvent, void, void> {
  let event = 'message'
  let data: string[] = []
  let id: string | undefined
  for await (const bytes of linesOf(stream, LINE_BYTES_MAX)) {
    const line = bytes.toString().replace(/\r$/, '')
    if (line === '') {
      if (data.length > 0) yield { event, data: data.join('\n'), id }
      else if (id !== undefined) yield { event, data: undefined, id }
      event = 'message'
      data = []
      id = undefined
      continue
    }
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1))
    if (field === 'data') data.push(value)
    else if (field === 'event') event = value
    else if (field === 'id') id = value
  }
}
