import type { ObjectVersion, UploadPart } from '../../../common/model.ts'
import type { Call } from '../call.ts'
import { checksumElement } from '../checksums.ts'
import { readConditions } from '../conditions.ts'
import { invalidArgument, S3Error } from '../errors.ts'
import { hideMissingKey } from '../missing-key.ts'
import { sendNotModified } from '../not-modified.ts'
import type { Operation } from '../operation.ts'
import { httpDate } from '../../http/http-times.ts'
import { document, element } from '../xml/escape.ts'

const ATTRIBUTES = ['ETag', 'Checksum', 'ObjectParts', 'StorageClass', 'ObjectSize'] as const
type Attribute = (typeof ATTRIBUTES)[number]

const PARTS_MAX = 1000

export const getObjectAttributes = {
  name: 'GetObjectAttributes',
  method: 'GET',
  level: 'object',
  subresource: 'attributes',
  features: true,
  access: (call) => {
    const versioned = call.versionId !== undefined
    call.authorize(versioned ? 's3:GetObjectVersion' : 's3:GetObject')
    call.authorize(versioned ? 's3:GetObjectVersionAttributes' : 's3:GetObjectAttributes')
  },
  run: async (call) => {
    const wanted = parseAttributes(call.header('x-amz-object-attributes'))
    let version: ObjectVersion
    try {
      version = await call.store.objects.head(call.address, readConditions(call))
    } catch (error) {
      if (await sendNotModified(call, error)) return
      throw hideMissingKey(call, error)
    }
    const headers = call.replyHeaders()
    headers.push('Last-Modified', httpDate(version.mtimeMs))
    if (version.versionId !== undefined) headers.push('x-amz-version-id', version.versionId)
    const content =
      (wanted.has('ETag') ? element('ETag', version.etag) : '') +
      (wanted.has('Checksum') ? checksumContent(version) : '') +
      (wanted.has('ObjectParts') ? await partsContent(call, version) : '') +
      (wanted.has('StorageClass') ? element('StorageClass', version.attributes.storageClass) : '') +
      (wanted.has('ObjectSize') ? element('ObjectSize', version.size) : '')
    call.sendXml(document('GetObjectAttributesResponse', content), headers)
  },
} as const satisfies Operation

function parseAttributes(header: string | undefined): ReadonlySet<Attribute> {
  const wanted = new Set<Attribute>()
  for (const name of (header ?? '').split(',').map((text) => text.trim())) {
    const attribute = ATTRIBUTES.find((candidate) => candidate === name)
    if (attribute === undefined)
      throw invalidArgument('x-amz-object-attributes', header, 'Invalid attribute name specified.')
    wanted.add(attribute)
  }
  return wanted
}

function checksumContent(version: ObjectVersion): string {
  if (version.checksum === undefined) return ''
  return `<Checksum>${checksumElement(version.checksum)}${element('ChecksumType', version.checksum.type)}</Checksum>`
}

/** AWS lists parts only of objects with part checksums; listing them always tells clients more and breaks none. */
async function partsContent(call: Call, version: ObjectVersion): Promise<string> {
  if (version.partsCount === undefined) return ''
  const after = headerNumber(call, 'x-amz-part-number-marker', 0)
  const limit = Math.min(headerNumber(call, 'x-amz-max-parts', PARTS_MAX), PARTS_MAX)
  const { parts, truncated } = await call.store.objects.parts(call.address, after, limit)
  return (
    `<ObjectParts>${element('PartsCount', version.partsCount)}${element('PartNumberMarker', after)}` +
    `${element('NextPartNumberMarker', parts[parts.length - 1]?.partNumber ?? after)}${element('MaxParts', limit)}` +
    `${element('IsTruncated', truncated)}${parts.map(partElement).join('')}</ObjectParts>`
  )
}

function partElement(part: UploadPart): string {
  return `<Part>${element('PartNumber', part.partNumber)}${element('Size', part.size)}${checksumElement(part.checksum)}</Part>`
}

function headerNumber(call: Call, name: string, fallback: number): number {
  const value = call.header(name)
  if (value === undefined) return fallback
  if (!/^\d{1,9}$/.test(value))
    throw new S3Error('InvalidArgument', undefined, { ArgumentName: name, ArgumentValue: value })
  return Number(value)
}
