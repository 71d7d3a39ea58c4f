import type { ChecksumAlgorithm } from '../../../common/model.ts'
import { receiveBody } from '../../http/body/receive.ts'
import { planBody } from '../body/plan.ts'
import type { Call } from '../call.ts'
import { pushChecksum } from '../checksums.ts'
import { S3Error } from '../errors.ts'
import type { Operation } from '../operation.ts'
import { parsePartNumber } from '../range.ts'

export const uploadPart = {
  name: 'UploadPart',
  method: 'PUT',
  level: 'object',
  subresource: 'uploadId',
  features: true,
  ack: true,
  access: (call) => call.authorize('s3:PutObject'),
  run: async (call) => {
    const partNumber = parsePartNumber(call.query('partNumber'), call.door.limits.partsMax)
    const address = uploadAddress(call)
    const { ack } = call
    // Before the body is asked for: a part of 5 GiB for an upload that is gone should not travel.
    const upload = await call.store.uploads.get(address)
    const plan = planBody(call, upload.checksumAlgorithm)
    requireAlgorithm(upload.checksumAlgorithm, plan.claims.checksum?.algorithm)
    const body = await receiveBody(call, plan)
    try {
      const result = await call.store.uploads.putPart({
        ...address,
        partNumber,
        body: body.source,
        checksum: body.checksum,
        ack,
      })
      const headers = call.replyHeaders()
      headers.push('ETag', `"${result.etag}"`)
      // Of a part only the value is told: its type is the upload's affair.
      const typed: string[] = []
      pushChecksum(typed, result.checksum)
      headers.push(...typed.slice(0, 2))
      call.send(200, headers)
    } catch (error) {
      await body.discard()
      throw error
    }
  },
} as const satisfies Operation

export function uploadAddress(call: Call): { bucket: string; key: string; uploadId: string } {
  return { bucket: call.bucket, key: call.key, uploadId: call.query('uploadId') ?? '' }
}

/**
 * Parts of one upload share an algorithm. A part without a checksum is given one of the upload's, which is more than AWS
 * does, and lets old clients take part in an upload that a newer one began.
 */
function requireAlgorithm(expected: ChecksumAlgorithm | undefined, actual: ChecksumAlgorithm | undefined): void {
  if (expected === undefined || actual === undefined || expected === actual) return
  throw new S3Error(
    'InvalidRequest',
    `Checksum Type mismatch occurred, expected checksum Type: ${expected.toLowerCase()}, actual checksum Type: ${actual.toLowerCase()}`,
  )
}
