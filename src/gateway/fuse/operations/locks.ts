/** Advisory locks. */
import { ERRNO, FuseError } from '../protocol/errno.ts'
import type { LockRequest } from '../protocol/requests.ts'
import type { LockTarget } from '../lock-table.ts'
import type { Operations } from './operation.ts'

export const LOCK_OPERATIONS: Operations<'GETLK' | 'SETLK' | 'SETLKW' | 'INTERRUPT'> = {
  GETLK(request, mount) {
    const { header, lock } = request
    const inTheWay = mount.locks.conflict(targetOf(request), lock) ?? { ...lock, type: 'unlock' as const }
    mount.answers.send(header, (encoder, unique) => encoder.lock(unique, inTheWay))
  },

  SETLK(request, mount) {
    if (!mount.locks.set(targetOf(request), request.lock)) throw new FuseError('EAGAIN')
    mount.answers.done(request.header)
  },

  async SETLKW(request, mount) {
    const { header, lock } = request
    mount.answers.withoutDeadline(header)
    const outcome = await mount.locks.wait(header.unique, targetOf(request), lock)
    if (outcome === 'interrupted') {
      mount.answers.error(header, ERRNO.EINTR)
      return
    }
    // Interrupted between the grant and this answer, or the caller was killed: then nobody would ever give it up.
    if (!mount.answers.done(header)) mount.locks.set(targetOf(request), { ...lock, type: 'unlock' })
  },

  // Only lock waits end early: everything else is soon done, and half of it cannot be undone.
  INTERRUPT({ target }, mount) {
    mount.locks.interrupt(target)
  },
}

function targetOf({ header, owner, flock }: LockRequest): LockTarget {
  return { nodeId: header.nodeId, sort: flock ? 'flock' : 'posix', owner }
}
