import { checksumValue, parseAlgorithm } from '../../http/body/checksum-headers.ts'
import { multipartChecksumType, parseChecksumType } from '../checksums.ts'
import { S3Error } from '../errors.ts'
import { objectAttributes } from '../object-attributes.ts'
import type { Operation } from '../operation.ts'
import { document, element } from '../xml/escape.ts'

export const createMultipartUpload = {
  name: 'CreateMultipartUpload',
  method: 'POST',
  level: 'object',
  subresource: 'uploads',
  features: true,
  access: (call) => {
    call.authorize('s3:PutObject')
    if (call.headers['x-amz-tagging'] !== undefined) call.authorize('s3:PutObjectTagging')
  },
  run: async (call) => {
    const attributes = objectAttributes(call)
    const algorithm = parseAlgorithm(call.header('x-amz-checksum-algorithm'))
    const asked = parseChecksumType(call.header('x-amz-checksum-type'))
    if (checksumValue(call.headers) !== undefined || (algorithm === undefined && asked !== undefined)) {
      throw new S3Error(
        'InvalidRequest',
        'The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.',
      )
    }
    const upload = await call.store.uploads.create({
      bucket: call.bucket,
      key: call.key,
      owner: call.authenticated.principal.id,
      attributes,
      checksumAlgorithm: algorithm,
      checksumType: algorithm === undefined ? undefined : multipartChecksumType(algorithm, asked),
    })
    const headers = call.replyHeaders()
    if (upload.checksumAlgorithm !== undefined) headers.push('x-amz-checksum-algorithm', upload.checksumAlgorithm)
    if (upload.checksumType !== undefined) headers.push('x-amz-checksum-type', upload.checksumType)
    const content = element('Bucket', upload.bucket) + element('Key', upload.key) + element('UploadId', upload.uploadId)
    call.sendXml(document('InitiateMultipartUploadResult', content), headers)
  },
} as const satisfies Operation
