import type { BucketRecord } from '../../../common/model.ts'
import { invalidArgument } from '../errors.ts'
import { wholeNumber, type Call } from '../call.ts'
import type { Operation } from '../operation.ts'
import { decodeToken, encodeToken, ownerElement } from '../listing.ts'
import { isoDate } from '../../http/http-times.ts'
import { document, element } from '../xml/escape.ts'

const BUCKETS_MAX = 10_000
const PAGE = 1000

export const listBuckets = {
  name: 'ListBuckets',
  method: 'GET',
  level: 'service',
  access: (call) => call.authorize('s3:ListAllMyBuckets', {}),
  run: async (call) => {
    const prefix = call.query('prefix') ?? ''
    const limit = wholeNumber(call, 'max-buckets', { min: 1, max: BUCKETS_MAX, fallback: BUCKETS_MAX })
    const token = call.query('continuation-token')
    const after = token === undefined || token === '' ? '' : decodeToken(token)
    const region = call.query('bucket-region')
    if (region !== undefined && region !== call.door.region) {
      throw invalidArgument('bucket-region', region, 'Argument value is not a region of this endpoint')
    }
    const found = await visibleBuckets(call, { prefix, after, limit: limit + 1 })
    const page = found.slice(0, limit)
    const last = found.length > limit ? page[page.length - 1]?.name : undefined
    const { principal } = call.authenticated
    const content =
      ownerElement('Owner', call.door.owner(principal.id)) +
      `<Buckets>${page.map(bucketElement).join('')}</Buckets>` +
      element('Prefix', call.query('prefix')) +
      element('ContinuationToken', last === undefined ? undefined : encodeToken(last))
    call.sendXml(document('ListAllMyBucketsResult', content))
  },
} as const satisfies Operation

/**
 * One's own buckets, as on AWS, and those that a policy lets one list: a user whom the configuration gave rights to another's
 * bucket should find it. The root user sees all.
 */
async function visibleBuckets(
  call: Call,
  request: { prefix: string; after: string; limit: number },
): Promise<BucketRecord[]> {
  const { principal } = call.authenticated
  const visible: BucketRecord[] = []
  let { after } = request
  for (;;) {
    const page = await call.store.buckets.list({ prefix: request.prefix, after, limit: PAGE })
    for (const bucket of page) {
      const mine = principal.kind === 'root' || bucket.owner === principal.id
      if (mine || call.mayDo('s3:ListBucket', { bucket: bucket.name })) visible.push(bucket)
      if (visible.length >= request.limit) return visible
    }
    const last = page[page.length - 1]
    if (last === undefined || page.length < PAGE) return visible
    after = last.name
  }
}

function bucketElement(bucket: BucketRecord): string {
  return (
    `<Bucket>${element('Name', bucket.name)}${element('CreationDate', isoDate(bucket.createdMs))}` +
    `${element('BucketRegion', bucket.region)}</Bucket>`
  )
}
