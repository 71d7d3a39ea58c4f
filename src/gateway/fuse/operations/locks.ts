/** Advisory locks. */
import { ERRNO, FuseError } from '../protocol/errno.ts'
import type { LockRequest } from '../protocol/requests.ts'
import { isVirtualNodeId } from '../virtual/nodes.ts'
import type { LockTarget } from '../lock-table.ts'
import { published } from './data.ts'
import type { MountState, Operations } from './operation.ts'

export const LOCK_OPERATIONS: Operations<'GETLK' | 'SETLK' | 'SETLKW' | 'INTERRUPT'> = {
  async GETLK(request, mount) {
    const { header, lock } = request
    const found = await mount.locks.conflict(targetOf(request), lock)
    const inTheWay = found ?? { ...lock, type: 'unlock' as const }
    mount.answers.send(header, (encoder, unique) => encoder.lock(unique, inTheWay))
  },

  async SETLK(request, mount) {
    if (isUnlock(request) && mount.locks.areShared) await publishWritten(request, mount)
    if (!(await mount.locks.set(targetOf(request), request.lock))) throw new FuseError('EAGAIN')
    await answerGranted(request, mount)
  },

  async SETLKW(request, mount) {
    const { header, lock } = request
    if (isUnlock(request) && mount.locks.areShared) await publishWritten(request, mount)
    else mount.answers.withoutDeadline(header)
    const outcome = await mount.locks.wait(header.unique, targetOf(request), lock)
    if (outcome === 'interrupted') {
      mount.answers.error(header, ERRNO.EINTR)
      return
    }
    await answerGranted(request, mount)
  },

  // Only lock waits end early: everything else is soon done, and half of it cannot be undone.
  INTERRUPT({ target }, mount) {
    mount.locks.interrupt(target)
  },
}

/** Interrupted between the grant and this answer, too late, or the caller was killed: then nobody would ever give it up. */
async function answerGranted(request: LockRequest, mount: MountState): Promise<void> {
  if (mount.answers.done(request.header) || isUnlock(request)) return
  await mount.locks.set(targetOf(request), { ...request.lock, type: 'unlock' })
}

/** Before whoever has the lock next, on another node, looks. */
async function publishWritten({ header, handle }: LockRequest, mount: MountState): Promise<void> {
  if (isVirtualNodeId(header.nodeId) || !mount.files.isUnpublished(handle)) return
  await published(mount, { header, handle }, () => mount.files.flush(handle))
}

function isUnlock({ lock }: LockRequest): boolean {
  return lock.type === 'unlock'
}

function targetOf({ header, owner, flock }: LockRequest): LockTarget {
  return { nodeId: header.nodeId, sort: flock ? 'flock' : 'posix', owner }
}
