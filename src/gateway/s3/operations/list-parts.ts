import type { UploadPart } from '../../../common/model.ts'
import { pageLimit, wholeNumber } from '../call.ts'
import { checksumElement } from '../checksums.ts'
import { ownerElement } from '../listing.ts'
import type { Operation } from '../operation.ts'
import { isoDate } from '../../http/http-times.ts'
import { document, element } from '../xml/escape.ts'
import { uploadAddress } from './upload-part.ts'

export const listParts = {
  name: 'ListParts',
  method: 'GET',
  level: 'object',
  subresource: 'uploadId',
  access: (call) => call.authorize('s3:ListMultipartUploadParts'),
  run: async (call) => {
    const limit = pageLimit(call, 'max-parts')
    const after = wholeNumber(call, 'part-number-marker', { min: 0, max: 2_147_483_647, fallback: 0 })
    const address = uploadAddress(call)
    const page = await call.store.uploads.listParts({ ...address, after, limit: Math.max(limit, 1) })
    const parts = page.parts.slice(0, limit)
    const { upload } = page
    const owner = call.door.owner(upload.owner)
    const content =
      element('Bucket', call.bucket) +
      element('Key', call.key) +
      element('UploadId', upload.uploadId) +
      ownerElement('Initiator', owner) +
      ownerElement('Owner', owner) +
      element('StorageClass', upload.attributes.storageClass) +
      element('PartNumberMarker', after) +
      element('NextPartNumberMarker', parts[parts.length - 1]?.partNumber ?? after) +
      element('MaxParts', limit) +
      element('IsTruncated', limit > 0 && page.truncated) +
      element('ChecksumAlgorithm', upload.checksumAlgorithm) +
      element('ChecksumType', upload.checksumType) +
      parts.map(partElement).join('')
    call.sendXml(document('ListPartsResult', content))
  },
} as const satisfies Operation

function partElement(part: UploadPart): string {
  return (
    `<Part>${element('PartNumber', part.partNumber)}${element('LastModified', isoDate(part.mtimeMs))}` +
    `${element('ETag', `"${part.etag}"`)}${element('Size', part.size)}${checksumElement(part.checksum)}</Part>`
  )
}
