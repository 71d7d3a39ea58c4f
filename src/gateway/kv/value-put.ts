import { TidegateError } from '../../common/errors.ts'
import type { ObjectAttributes } from '../../common/model.ts'
import type { BodyPlan } from '../http/body/body-call.ts'
import { announcedChecksum } from '../http/body/checksum-headers.ts'
import { bodyClaims, md5OfHeader, saysHowLong, sentLength } from '../http/body/claims.ts'
import { receiveBody, refuseTooLarge } from '../http/body/receive.ts'
import { contentHeadersOf, userMetadataOf } from '../http/content-headers.ts'
import { CHECKSUM_ALGORITHM } from './value-bytes.ts'
import type { ValueCall, ValueOperation } from './value-call.ts'
import { absentToUnmatched } from './value-conditions.ts'
import { METADATA_PREFIX, pushState } from './value-headers.ts'
import { pinOnWrite } from './value-pin.ts'

export const putValue: ValueOperation = {
  name: 'KvPut',
  method: 'PUT',
  action: 's3:PutObject',
  parameters: ['ttl', 'pin'],
  run: async (call) => {
    const { conditions, ack, store, bucket, key } = call
    const { ttl } = call.parameters
    const attributes = attributesOf(call)
    const plan = planBody(call)
    await refuseEarly(call, plan)
    const body = await receiveBody(call, plan)
    try {
      const result = await store.objects.put({
        bucket,
        key,
        body: body.source,
        attributes,
        checksum: body.checksum,
        owner: call.authenticated.principal.id,
        conditions,
        ack,
        ttlMs: ttl === undefined ? undefined : Math.round(ttl * 1000),
      })
      const headers = call.replyHeaders()
      pushState(headers, result)
      await pinOnWrite(call, result.versionId, headers)
      headers.push('Content-Length', '0')
      call.response.writeHead(200, headers).end()
    } catch (error) {
      await body.discard()
      throw absentToUnmatched(error, conditions)
    }
  },
}

/** @throws InvalidArgument */
function attributesOf(call: ValueCall): ObjectAttributes {
  const { metadata, bytes } = userMetadataOf(call.headers, METADATA_PREFIX)
  const bytesMax = call.door.limits.userMetadataBytesMax
  if (bytes > bytesMax) {
    throw new TidegateError('InvalidArgument', `${bytes} bytes of metadata are more than ${bytesMax}`)
  }
  return { headers: contentHeadersOf(call.headers), userMetadata: metadata, tags: {}, storageClass: 'STANDARD' }
}

/** @throws InvalidArgument, InvalidRequest, BadDigest, EntityTooLarge */
function planBody(call: ValueCall): BodyPlan {
  const { headers, authenticated } = call
  const checksum = announcedChecksum(headers, authenticated.trailers)
  const plan: BodyPlan = {
    claims: bodyClaims(authenticated, {
      // Neither a length nor a transfer coding: HTTP/1.1 says that the body is empty, and so is the value.
      contentLength: saysHowLong(headers) ? sentLength(headers) : 0,
      md5: contentMd5(call.header('content-md5')),
      checksum,
    }),
    algorithm: checksum?.algorithm ?? CHECKSUM_ALGORITHM,
  }
  refuseTooLarge(call, plan)
  return plan
}

function contentMd5(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const md5 = md5OfHeader(header)
  if (md5 === undefined) {
    throw new TidegateError('InvalidArgument', `Content-MD5 ${JSON.stringify(header)} is no MD5 in base64`)
  }
  return md5
}

/**
 * A missing bucket is reported before the body is asked for when that spares the client something: it waits for
 * `100 Continue`, or has much to send. For a small body the publish itself will tell.
 */
async function refuseEarly(call: ValueCall, { claims }: BodyPlan): Promise<void> {
  const small = claims.length !== undefined && claims.length <= call.door.limits.hashInlineBytesMax
  if (small && call.headers.expect === undefined) return
  await call.store.buckets.get(call.bucket)
}
