/** What a gateway asks before it serves metadata in etcd: whether they are on their way, and from what their revisions count. */
import { TidegateError } from '../../common/errors.ts'
import { onlyKey, type EtcdLayout } from '../raft/layout.ts'
import type { Etcd } from '../raft/ports.ts'
import { revisionBase, shiftedEtcd } from '../raft/shifted-etcd.ts'
import { unavailable } from '../raft/words.ts'
import { movingIs, readMoving, whyNotServed } from './moving-row.ts'

/**
 * For a node that these metadata know: etcd with the revisions of the metadata. A move into its data directory that was not finished is given up.
 * @throws Unavailable while they are on their way
 */
export async function etcdToServe(etcd: Etcd, layout: EtcdLayout): Promise<Etcd> {
  try {
    await giveUpLeaving(etcd, layout)
    return shiftedEtcd(etcd, await revisionBase(etcd, layout))
  } catch (error) {
    throw unavailable(error)
  }
}

async function giveUpLeaving(etcd: Etcd, layout: EtcdLayout): Promise<void> {
  const found = await readMoving(etcd, layout)
  if (found === undefined) return
  if (found.state !== 'leaving') throw new TidegateError('Unavailable', whyNotServed(layout.prefix, found.state))
  const success = [{ kind: 'delete', range: onlyKey(layout.moving) }] as const
  // Somebody may have been faster, or the answer may be lost: then it is looked at again at the next start.
  const { succeeded } = await etcd.transact({ compares: [movingIs(layout, found)], success, failure: [] })
  if (!succeeded) throw new TidegateError('Unavailable', whyNotServed(layout.prefix, 'leaving'))
}
