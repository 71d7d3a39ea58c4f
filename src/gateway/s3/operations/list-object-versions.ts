import type { ListedVersion, ListVersionsPage, ListVersionsRequest } from '../../../common/model.ts'
import { pageLimit, wantsUrlEncoding, type Call } from '../call.ts'
import { invalidArgument } from '../errors.ts'
import { commonPrefixElements, keyEncoding, objectElements, ownerElement, type TextEncoding } from '../listing.ts'
import type { Operation } from '../operation.ts'
import { isoDate } from '../../http/http-times.ts'
import { document, element, escapeXml } from '../xml/escape.ts'

export const listObjectVersions = {
  name: 'ListObjectVersions',
  method: 'GET',
  level: 'bucket',
  subresource: 'versions',
  access: (call) =>
    call.authorize('s3:ListBucketVersions', undefined, {
      's3:prefix': call.query('prefix') ?? '',
      's3:delimiter': call.query('delimiter') ?? '',
      's3:max-keys': call.query('max-keys'),
    }),
  run: async (call) => {
    const url = wantsUrlEncoding(call)
    const encode = keyEncoding(url)
    const request = versionsRequest(call)
    const page = await versionsPage(call, request)
    const content =
      element('Name', call.bucket) +
      `<Prefix>${encode(request.prefix)}</Prefix>` +
      `<KeyMarker>${encode(request.keyMarker)}</KeyMarker>` +
      `<VersionIdMarker>${escapeXml(request.versionIdMarker ?? '')}</VersionIdMarker>` +
      (page.nextKeyMarker === undefined ? '' : `<NextKeyMarker>${encode(page.nextKeyMarker)}</NextKeyMarker>`) +
      element('NextVersionIdMarker', page.nextVersionIdMarker) +
      element('MaxKeys', request.limit) +
      (request.delimiter === '' ? '' : `<Delimiter>${encode(request.delimiter)}</Delimiter>`) +
      (url ? '<EncodingType>url</EncodingType>' : '') +
      element('IsTruncated', page.truncated) +
      page.versions.map((version) => versionElement(call, version, encode)).join('') +
      commonPrefixElements(page.commonPrefixes, encode)
    call.sendXml(document('ListVersionsResult', content))
  },
} as const satisfies Operation

function versionsRequest(call: Call): ListVersionsRequest {
  const keyMarker = call.query('key-marker') ?? ''
  const versionIdMarker = call.query('version-id-marker')
  if (versionIdMarker !== undefined && keyMarker === '') {
    throw invalidArgument(
      'version-id-marker',
      versionIdMarker,
      'A version-id marker cannot be specified without a key marker.',
    )
  }
  return {
    bucket: call.bucket,
    prefix: call.query('prefix') ?? '',
    delimiter: call.query('delimiter') ?? '',
    keyMarker,
    versionIdMarker: versionIdMarker === '' ? undefined : versionIdMarker,
    limit: pageLimit(call, 'max-keys'),
  }
}

async function versionsPage(call: Call, request: ListVersionsRequest): Promise<ListVersionsPage> {
  if (request.limit > 0) return call.store.objects.listVersions(request)
  await call.store.buckets.get(request.bucket)
  return {
    versions: [],
    commonPrefixes: [],
    truncated: false,
    nextKeyMarker: undefined,
    nextVersionIdMarker: undefined,
    revision: 0,
  }
}

function versionElement(call: Call, version: ListedVersion, encode: TextEncoding): string {
  const state = `${element('VersionId', version.versionId)}${element('IsLatest', version.isLatest)}`
  const owner = ownerElement('Owner', call.door.owner(version.owner))
  if (!version.isDeleteMarker) return `<Version>${objectElements(version, encode)}${state}${owner}</Version>`
  const when = element('LastModified', isoDate(version.mtimeMs))
  return `<DeleteMarker><Key>${encode(version.key)}</Key>${state}${when}${owner}</DeleteMarker>`
}
