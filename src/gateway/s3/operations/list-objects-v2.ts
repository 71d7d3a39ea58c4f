import { pageLimit, wantsUrlEncoding } from '../call.ts'
import { invalidArgument } from '../errors.ts'
import { decodeToken, encodeToken, keyEncoding } from '../listing.ts'
import type { Operation } from '../operation.ts'
import { document, element } from '../xml/escape.ts'
import { authorizeListing, listPage, listRequest, rows } from './list-objects.ts'

export const listObjectsV2 = {
  name: 'ListObjectsV2',
  method: 'GET',
  level: 'bucket',
  subresource: 'list-type',
  access: authorizeListing,
  run: async (call) => {
    const type = call.query('list-type')
    if (type !== '2') throw invalidArgument('list-type', type)
    const url = wantsUrlEncoding(call)
    const encode = keyEncoding(url)
    const startAfter = call.query('start-after')
    const token = call.query('continuation-token')
    // An empty token is echoed and otherwise as none; a real one wins over start-after.
    const after = token === undefined || token === '' ? (startAfter ?? '') : decodeToken(token)
    const limit = pageLimit(call, 'max-keys')
    const request = listRequest(call, after, limit)
    const page = await listPage(call, request)
    const next = page.truncated && page.next !== undefined ? encodeToken(page.next) : undefined
    const content =
      element('Name', call.bucket) +
      `<Prefix>${encode(request.prefix)}</Prefix>` +
      (startAfter === undefined ? '' : `<StartAfter>${encode(startAfter)}</StartAfter>`) +
      element('ContinuationToken', token) +
      element('NextContinuationToken', next) +
      element('KeyCount', page.objects.length + page.commonPrefixes.length) +
      element('MaxKeys', limit) +
      (request.delimiter === '' ? '' : `<Delimiter>${encode(request.delimiter)}</Delimiter>`) +
      (url ? '<EncodingType>url</EncodingType>' : '') +
      element('IsTruncated', page.truncated) +
      rows(call, page, { encode, owners: call.query('fetch-owner') === 'true' })
    call.sendXml(document('ListBucketResult', content))
  },
} as const satisfies Operation
