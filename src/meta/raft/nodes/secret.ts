/**
 * What nodes of the same metadata prove to each other that they know, before they exchange anything: 32 random bytes, made by the first node that looks. It lies in etcd,
 * because whoever reads that can read and write all metadata anyway (decision 18).
 *
 *   <prefix> 00 secret     32 random bytes
 *
 * Where etcd was restored from before the row was made, the next who looks makes another; so it is looked at again now and then.
 */
import { onlyKey, type EtcdLayout } from '../layout.ts'
import type { Etcd } from '../ports.ts'

export const SECRET_BYTES = 32

export interface NodeSecretOptions {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly fillRandom: (bytes: Uint8Array) => void
}

/** As it is in etcd, made if it is not there. Safe to repeat, and for many at once. @throws EtcdFailure */
export async function readNodeSecret({ etcd, layout, fillRandom }: NodeSecretOptions): Promise<Uint8Array> {
  const range = onlyKey(layout.secret)
  const found = (await etcd.range({ range, limit: 1 })).rows[0]
  if (isSecret(found?.value)) return found.value
  const made = new Uint8Array(SECRET_BYTES)
  fillRandom(made)
  const { succeeded, results } = await etcd.transact({
    compares: [{ kind: 'unchanged', key: layout.secret, modRevision: found?.modRevision ?? 0 }],
    success: [{ kind: 'put', key: layout.secret, value: made }],
    failure: [{ kind: 'range', range, limit: 1 }],
  })
  if (succeeded) return made
  const [result] = results
  const other = result?.kind === 'range' ? result.found.rows[0]?.value : undefined
  return isSecret(other) ? other : await readNodeSecret({ etcd, layout, fillRandom })
}

/** A row that somebody has cut short would be a secret that can be guessed. */
function isSecret(value: Uint8Array | undefined): value is Uint8Array {
  return value?.length === SECRET_BYTES
}
