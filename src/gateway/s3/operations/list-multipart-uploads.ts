import type { UploadRecord } from '../../../common/model.ts'
import { pageLimit, wantsUrlEncoding, type Call } from '../call.ts'
import { commonPrefixElements, keyEncoding, ownerElement, type TextEncoding } from '../listing.ts'
import type { Operation } from '../operation.ts'
import { isoDate } from '../../http/http-times.ts'
import { document, element, escapeXml } from '../xml/escape.ts'

export const listMultipartUploads = {
  name: 'ListMultipartUploads',
  method: 'GET',
  level: 'bucket',
  subresource: 'uploads',
  access: (call) => call.authorize('s3:ListBucketMultipartUploads'),
  run: async (call) => {
    const url = wantsUrlEncoding(call)
    const encode = keyEncoding(url)
    const limit = pageLimit(call, 'max-uploads')
    const prefix = call.query('prefix') ?? ''
    const delimiter = call.query('delimiter') ?? ''
    const keyMarker = call.query('key-marker') ?? ''
    // Without a key marker the upload id marker has nothing to stand on, and is ignored, as on AWS.
    const uploadIdMarker = keyMarker === '' ? '' : (call.query('upload-id-marker') ?? '')
    const page = await call.store.uploads.list({
      bucket: call.bucket,
      prefix,
      delimiter,
      keyMarker,
      uploadIdMarker,
      limit: Math.max(limit, 1),
    })
    const shown = limit > 0
    const content =
      element('Bucket', call.bucket) +
      `<KeyMarker>${encode(keyMarker)}</KeyMarker>` +
      `<UploadIdMarker>${escapeXml(uploadIdMarker)}</UploadIdMarker>` +
      (page.nextKeyMarker === undefined ? '' : `<NextKeyMarker>${encode(page.nextKeyMarker)}</NextKeyMarker>`) +
      element('NextUploadIdMarker', page.nextUploadIdMarker) +
      `<Prefix>${encode(prefix)}</Prefix>` +
      (delimiter === '' ? '' : `<Delimiter>${encode(delimiter)}</Delimiter>`) +
      (url ? '<EncodingType>url</EncodingType>' : '') +
      element('MaxUploads', limit) +
      element('IsTruncated', shown && page.truncated) +
      (shown ? page.uploads.map((upload) => uploadElement(call, upload, encode)).join('') : '') +
      (shown ? commonPrefixElements(page.commonPrefixes, encode) : '')
    call.sendXml(document('ListMultipartUploadsResult', content))
  },
} as const satisfies Operation

function uploadElement(call: Call, upload: UploadRecord, encode: TextEncoding): string {
  const owner = call.door.owner(upload.owner)
  return (
    `<Upload><Key>${encode(upload.key)}</Key>${element('UploadId', upload.uploadId)}` +
    `${ownerElement('Initiator', owner)}${ownerElement('Owner', owner)}` +
    `${element('StorageClass', upload.attributes.storageClass)}${element('Initiated', isoDate(upload.initiatedMs))}` +
    `${element('ChecksumAlgorithm', upload.checksumAlgorithm)}${element('ChecksumType', upload.checksumType)}</Upload>`
  )
}
