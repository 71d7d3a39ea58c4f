/**
 * What this data directory is about to put into the remote store, noted durably before it does (persist/names/intents.ts):
 *
 *   key     'M' 0x01 'names-', random of the capture (16 hex digits)
 *   value   revision at which it was noted, 8 bytes, big-endian
 *
 * The notes belong to the directory and not to the namespace: they are no names, and a restored directory begins without any.
 */
import type { ByteString, Revision } from '../../common/ids.ts'
import type { DurableRows } from '../stage/ports.ts'
import type { NamespaceContext } from './context.ts'
import { prefixRange } from './keys.ts'

export interface NotedIntent {
  readonly random: string
  readonly revision: Revision
}

const PREFIX = 'M\x01names-' as ByteString
const READ_AT_ONCE = 65_536

/** Resolves when the note survives power loss; those to be forgotten go with it. */
export async function noteIntent(
  context: NamespaceContext,
  { random, revision }: NotedIntent,
  forgotten: readonly string[],
): Promise<void> {
  const value = Buffer.alloc(8)
  value.writeBigUInt64BE(BigInt(revision))
  const noted = await context.store.transact((tx) => {
    for (const other of forgotten) tx.delete(keyOf(other))
    tx.put(keyOf(random), value)
    return Promise.resolve()
  })
  await noted.durable
}

/** The oldest first. */
export function notedIntents(view: DurableRows): NotedIntent[] {
  const rows = view.scan(prefixRange(PREFIX), READ_AT_ONCE)
  const intents = rows.map(({ key, value }) => ({
    random: key.slice(PREFIX.length),
    revision: Number(Buffer.from(value).readBigUInt64BE()),
  }))
  return intents.sort((one, other) => one.revision - other.revision)
}

function keyOf(random: string): ByteString {
  return (PREFIX + random) as ByteString
}
