import type { ChecksumAlgorithm } from '../../../common/model.ts'
import type { BodyPlan } from '../../http/body/body-call.ts'
import { refuseTooLarge } from '../../http/body/receive.ts'
import type { Call } from '../call.ts'
import { readClaims } from './claims.ts'

/**
 * Reads the claims and refuses what can be refused before the client sends its body.
 * @param preferred algorithm to compute when the client announced none
 * @throws TidegateError EntityTooLarge and what `readClaims` throws
 */
export function planBody(call: Call, preferred: ChecksumAlgorithm = 'CRC64NVME'): BodyPlan {
  const claims = readClaims(call)
  const plan = { claims, algorithm: claims.checksum?.algorithm ?? preferred }
  refuseTooLarge(call, plan)
  return plan
}
