import { isTidegateError } from '../../../common/errors.ts'
import type { ChecksumType, ObjectChecksum, UploadRecord } from '../../../common/model.ts'
import type { CompletedPart } from '../../../store/types.ts'
import { COMPLETE_BYTES_MAX, receiveDocument } from '../body/document.ts'
import type { Call } from '../call.ts'
import { checksumValue } from '../../http/body/checksum-headers.ts'
import { checksumElement, checksumOfElement, parseChecksumType } from '../checksums.ts'
import { bareEtag } from '../../http/conditional-headers.ts'
import { writeConditions } from '../conditions.ts'
import { invalidArgument, S3Error } from '../errors.ts'
import { pushNewVersion } from '../object-headers.ts'
import type { Operation } from '../operation.ts'
import { document, element } from '../xml/escape.ts'
import { childrenNamed, childText, parseRoot, type XmlElement } from '../xml/parse.ts'
import { uploadAddress } from './upload-part.ts'

export const completeMultipartUpload = {
  name: 'CompleteMultipartUpload',
  method: 'POST',
  level: 'object',
  subresource: 'uploadId',
  features: true,
  ack: true,
  access: (call) => call.authorize('s3:PutObject'),
  run: async (call) => {
    // The checksum headers tell of the object here, not of this document.
    const text = await receiveDocument(call, { bytesMax: COMPLETE_BYTES_MAX, checksums: false })
    if (text === '') throw new S3Error('MalformedXML')
    const asked = parseChecksumType(call.header('x-amz-checksum-type'))
    const address = uploadAddress(call)
    const type = asked ?? (await uploadOf(call, address))?.checksumType ?? 'FULL_OBJECT'
    const result = await call.store.uploads.complete({
      ...address,
      parts: parseParts(parseRoot(text, 'CompleteMultipartUpload'), type, call.door.limits.partsMax),
      checksum: claimedChecksum(call, type),
      checksumType: asked,
      objectSize: objectSize(call.header('x-amz-mp-object-size')),
      conditions: writeConditions(call),
      ack: call.ack,
    })
    const headers = call.replyHeaders()
    pushNewVersion(headers, result.versionId)
    const content =
      element('Location', location(call)) +
      element('Bucket', call.bucket) +
      element('Key', call.key) +
      element('ETag', `"${result.etag}"`) +
      checksumElement(result.checksum) +
      element('ChecksumType', result.checksum?.type)
    call.sendXml(document('CompleteMultipartUploadResult', content), headers)
  },
} as const satisfies Operation

/**
 * The upload, if it is still there: a Complete that is sent again after its answer was lost names one that is not, and the
 * store then gives the first answer once more. Whether that holds is the store's to say.
 */
async function uploadOf(call: Call, address: ReturnType<typeof uploadAddress>): Promise<UploadRecord | undefined> {
  try {
    return await call.store.uploads.get(address)
  } catch (error) {
    // A Complete that is repeated: the store remembers what became of it.
    if (isTidegateError(error, 'NoSuchUpload')) return undefined
    throw error
  }
}

/**
 * A client that sent a part twice may list it twice in a row, once for each answer it got; the last one counts (s3-tests
 * does so, in test_multipart_resend_first_finishes_last).
 */
function parseParts(root: XmlElement, type: ChecksumType, partsMax: number): CompletedPart[] {
  const elements = childrenNamed(root, 'Part')
  if (elements.length === 0 || elements.length > partsMax) throw new S3Error('MalformedXML')
  const parts: CompletedPart[] = []
  for (const element of elements) {
    const part = parsePart(element, type, partsMax)
    if (parts[parts.length - 1]?.partNumber === part.partNumber) parts.pop()
    parts.push(part)
  }
  return parts
}

function parsePart(part: XmlElement, type: ChecksumType, partsMax: number): CompletedPart {
  const number = childText(part, 'PartNumber')?.trim()
  const etag = childText(part, 'ETag')
  if (number === undefined || !/^\d{1,5}$/.test(number) || etag === undefined) throw new S3Error('MalformedXML')
  const partNumber = Number(number)
  if (partNumber < 1 || partNumber > partsMax) {
    throw invalidArgument('PartNumber', number, `PartNumber must be >= 1 and <= ${partsMax}`)
  }
  return { partNumber, etag: bareEtag(etag), checksum: checksumOfElement(part, type) }
}

function claimedChecksum(call: Call, type: ChecksumType): ObjectChecksum | undefined {
  const claimed = checksumValue(call.headers)
  return claimed === undefined ? undefined : { ...claimed, type }
}

function objectSize(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^\d{1,15}$/.test(text)) throw invalidArgument('x-amz-mp-object-size', text)
  return Number(text)
}

function location(call: Call): string {
  const { host, secure } = call.authenticated.origin
  const path = call.target.path
  return `${secure ? 'https' : 'http'}://${host}${path}`
}
