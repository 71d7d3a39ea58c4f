import { checksumElement } from '../checksums.ts'
import { copySourceConditions } from '../conditions.ts'
import type { Operation } from '../operation.ts'
import { parseCopyRange, parsePartNumber } from '../range.ts'
import { isoDate } from '../../http/http-times.ts'
import { document, element } from '../xml/escape.ts'
import { authorizeSource, authorizeTarget, copyError } from './copy-object.ts'
import { uploadAddress } from './upload-part.ts'

export const uploadPartCopy = {
  name: 'UploadPartCopy',
  method: 'PUT',
  level: 'object',
  subresource: 'uploadId',
  copy: true,
  features: true,
  ack: true,
  access: (call) => {
    authorizeSource(call)
    authorizeTarget(call)
  },
  run: async (call) => {
    const partNumber = parsePartNumber(call.query('partNumber'), call.door.limits.partsMax)
    const range = parseCopyRange(call.header('x-amz-copy-source-range'))
    try {
      const result = await call.store.uploads.copyPart({
        ...uploadAddress(call),
        source: call.copySource,
        sourceConditions: copySourceConditions(call),
        range,
        partNumber,
        ack: call.ack,
      })
      const headers = call.replyHeaders()
      if (result.sourceVersionId !== undefined) headers.push('x-amz-copy-source-version-id', result.sourceVersionId)
      const content =
        element('LastModified', isoDate(result.mtimeMs)) +
        element('ETag', `"${result.etag}"`) +
        checksumElement(result.checksum)
      call.sendXml(document('CopyPartResult', content), headers)
    } catch (error) {
      throw copyError(call, error)
    }
  },
} as const satisfies Operation
