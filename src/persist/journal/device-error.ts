import { TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { DeviceFailure } from './device.ts'

const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

/** What a failed write means to a caller: no room, or a disk that cannot be trusted now. */
export function deviceError(segment: SegmentId, failure: DeviceFailure): TidegateError {
  const code = FULL.has(failure.code) ? 'StorageFull' : 'Unavailable'
  return new TidegateError(code, `cannot write segment ${segment}: ${failure.message}`, {
    details: { errno: failure.code },
  })
}
