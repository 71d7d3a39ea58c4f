/**
 * Notifications of object changes, as stores and what lies between send them:
 *
 *   S3 event message   `{"Records": [{"eventName", "s3": {"bucket": {"name"}, "object": {"key"}}}]}`; the key is encoded as in a form, a space as `+`
 *                      (Amazon S3 User Guide, "Event message structure"; MinIO and Ceph send the same)
 *   SNS                `{"Type": "Notification", "Message": TEXT}`, where the text is one of the others
 *   EventBridge        `{"source": "aws.s3", "detail": {"bucket": {"name"}, "object": {"key"}}}`; the key is as it is
 *
 * and arrays of those. What is none of them is not an error: test events and confirmations of subscriptions come the same way.
 */
import { KEY_BYTES_MAX } from './key-order.ts'

export interface ObjectEvent {
  readonly bucket: string
  readonly key: string
}

export interface EventMessage {
  readonly events: readonly ObjectEvent[]
  /** Messages and records that name no object. */
  readonly unread: number
}

/** A message in a message in an array: none is deeper. */
const DEPTH_MAX = 4

export function readEvents(message: unknown): EventMessage {
  const reader = new EventReader()
  reader.read(message, 0)
  return reader
}

class EventReader implements EventMessage {
  readonly events: ObjectEvent[] = []
  unread = 0

  read(message: unknown, depth: number): void {
    if (depth > DEPTH_MAX) this.unread++
    else if (Array.isArray(message)) for (const one of message) this.read(one, depth + 1)
    else if (!isRecord(message)) this.unread++
    else if (Array.isArray(message['Records']))
      for (const record of message['Records']) this.#add(record, 's3', decoded)
    else if (typeof message['Message'] === 'string') this.read(parsed(message['Message']), depth + 1)
    else if (message['source'] === 'aws.s3') this.#add(message, 'detail', (key) => key)
    else this.unread++
  }

  #add(record: unknown, member: string, keyOf: (text: string) => string | undefined): void {
    const told = isRecord(record) ? record[member] : undefined
    const [bucket, object] = isRecord(told) ? [told['bucket'], told['object']] : []
    const name = isRecord(bucket) ? bucket['name'] : undefined
    const text = isRecord(object) ? object['key'] : undefined
    const key = typeof text === 'string' ? keyOf(text) : undefined
    if (typeof name === 'string' && key !== undefined && isKey(key)) this.events.push({ bucket: name, key })
    else this.unread++
  }
}

/** What no store has is not worth a look, nor the memory. */
function isKey(key: string): boolean {
  return key !== '' && key.isWellFormed() && Buffer.byteLength(key) <= KEY_BYTES_MAX
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}
