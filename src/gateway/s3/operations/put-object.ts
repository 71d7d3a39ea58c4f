import { writeConditions } from '../conditions.ts'
import { receiveBody } from '../../http/body/receive.ts'
import { planBody } from '../body/plan.ts'
import type { Call } from '../call.ts'
import { pushChecksum } from '../checksums.ts'
import { objectAttributes } from '../object-attributes.ts'
import { pushNewVersion } from '../object-headers.ts'
import type { Operation } from '../operation.ts'

export const putObject = {
  name: 'PutObject',
  method: 'PUT',
  level: 'object',
  features: true,
  ack: true,
  access: (call) => {
    call.authorize('s3:PutObject')
    if (call.headers['x-amz-tagging'] !== undefined) call.authorize('s3:PutObjectTagging')
  },
  run: async (call) => {
    const attributes = objectAttributes(call)
    const conditions = writeConditions(call)
    const { ack } = call
    const plan = planBody(call)
    await refuseEarly(call, plan.claims.length)
    const body = await receiveBody(call, plan)
    try {
      const result = await call.store.objects.put({
        bucket: call.bucket,
        key: call.key,
        body: body.source,
        attributes,
        checksum: body.checksum,
        owner: call.authenticated.principal.id,
        conditions,
        ack,
      })
      const headers = call.replyHeaders()
      headers.push('ETag', `"${result.etag}"`)
      pushChecksum(headers, result.checksum)
      pushNewVersion(headers, result.versionId)
      call.send(200, headers)
    } catch (error) {
      await body.discard()
      throw error
    }
  },
} as const satisfies Operation

/**
 * A missing bucket is reported before the body is asked for when that spares the client something: it waits for
 * `100 Continue`, or has much to send. For a small body the publish itself will tell.
 */
export async function refuseEarly(call: Call, length: number | undefined): Promise<void> {
  const small = length !== undefined && length <= call.door.limits.hashInlineBytesMax
  if (small && call.headers.expect === undefined) return
  await call.store.buckets.get(call.bucket)
}
