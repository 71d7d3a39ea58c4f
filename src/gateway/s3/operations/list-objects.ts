import type { ListPage, ListRequest } from '../../../common/model.ts'
import { pageLimit, wantsUrlEncoding, type Call } from '../call.ts'
import { commonPrefixElements, keyEncoding, objectElements, ownerElement, type TextEncoding } from '../listing.ts'
import type { Operation } from '../operation.ts'
import { document, element, escapeXml } from '../xml/escape.ts'

export const listObjects = {
  name: 'ListObjects',
  method: 'GET',
  level: 'bucket',
  access: authorizeListing,
  run: async (call) => {
    const url = wantsUrlEncoding(call)
    const encode = keyEncoding(url)
    const marker = call.query('marker') ?? ''
    const limit = pageLimit(call, 'max-keys')
    const request = listRequest(call, marker, limit)
    const page = await listPage(call, request)
    // NextMarker only with a delimiter, as on AWS; without one the last key serves.
    const next = page.truncated && request.delimiter !== '' ? page.next : undefined
    const content =
      element('Name', call.bucket) +
      // Not percent-encoded: botocore decodes every element of this listing but this one.
      `<Prefix>${escapeXml(request.prefix)}</Prefix>` +
      `<Marker>${encode(marker)}</Marker>` +
      (next === undefined ? '' : `<NextMarker>${encode(next)}</NextMarker>`) +
      element('MaxKeys', limit) +
      (request.delimiter === '' ? '' : `<Delimiter>${encode(request.delimiter)}</Delimiter>`) +
      (url ? '<EncodingType>url</EncodingType>' : '') +
      element('IsTruncated', page.truncated) +
      rows(call, page, { encode, owners: true })
    call.sendXml(document('ListBucketResult', content))
  },
} as const satisfies Operation

export function authorizeListing(call: Call): void {
  call.authorize('s3:ListBucket', undefined, {
    's3:prefix': call.query('prefix') ?? '',
    's3:delimiter': call.query('delimiter') ?? '',
    's3:max-keys': call.query('max-keys'),
  })
}

export function listRequest(call: Call, after: string, limit: number): ListRequest {
  return {
    bucket: call.bucket,
    prefix: call.query('prefix') ?? '',
    delimiter: call.query('delimiter') ?? '',
    after,
    limit,
  }
}

/** A page of none is not truncated, as on AWS; the bucket must exist all the same. */
export async function listPage(call: Call, request: ListRequest): Promise<ListPage> {
  if (request.limit > 0) return call.store.objects.list(request)
  await call.store.buckets.get(request.bucket)
  return { objects: [], commonPrefixes: [], truncated: false, next: undefined, revision: 0 }
}

export function rows(call: Call, page: ListPage, options: { encode: TextEncoding; owners: boolean }): string {
  let xml = ''
  for (const object of page.objects) {
    const owner = options.owners ? ownerElement('Owner', call.door.owner(object.owner)) : ''
    xml += `<Contents>${objectElements(object, options.encode)}${owner}</Contents>`
  }
  return xml + commonPrefixElements(page.commonPrefixes, options.encode)
}
