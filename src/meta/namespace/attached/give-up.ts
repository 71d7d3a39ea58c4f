/**
 * What was written here and is lost with its bytes (bytes-lost.ts) was never carried out, and is no deletion: what lies outside at its key shows
 * again. The key is looked at anew, since no range that holds it counts as listed any more.
 *
 * Unless what lies outside was renamed away before: then the key had nothing else, and goes outside as it was to go.
 */
import type { NamespaceContext, Step } from '../context.ts'
import { uncover } from './coverage.ts'
import { decodeDirty, dirtyKey, encodeDirty } from './rows.ts'

/** Before the change is given up: whoever is killed between the two has listed once more than he had to. */
export async function lookAgainAt(
  context: NamespaceContext,
  { bucketId, key }: { readonly bucketId: number; readonly key: string },
): Promise<void> {
  await (
    await uncover(context, bucketId, key)
  ).durable
}

/** `key` in bytes. In the transaction, past the traces, that takes away what was lost. */
export async function giveUp({ tx, bucket }: Pick<Step, 'tx' | 'bucket'>, key: string): Promise<void> {
  const rowKey = dirtyKey(bucket.id, key)
  const row = await tx.get(rowKey)
  const dirty = row && decodeDirty(rowKey, row)
  if (!dirty) return
  if (dirty.neededBy.length > 0) tx.put(rowKey, encodeDirty({ ...dirty, revision: tx.revision + 1 }))
  else tx.delete(rowKey)
}
