import type { Operation } from '../operation.ts'
import { document, escapeXml } from '../xml/escape.ts'

export const getBucketLocation = {
  name: 'GetBucketLocation',
  method: 'GET',
  level: 'bucket',
  subresource: 'location',
  access: (call) => call.authorize('s3:GetBucketLocation'),
  run: async (call) => {
    const { region } = await call.store.buckets.get(call.bucket)
    // AWS's oldest region has no name here; SDKs and s3cmd take the empty element for us-east-1.
    call.sendXml(document('LocationConstraint', region === 'us-east-1' ? '' : escapeXml(region)))
  },
} as const satisfies Operation
