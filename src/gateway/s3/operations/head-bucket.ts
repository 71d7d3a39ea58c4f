import type { Operation } from '../operation.ts'

export const headBucket = {
  name: 'HeadBucket',
  method: 'HEAD',
  level: 'bucket',
  access: (call) => call.authorize('s3:ListBucket'),
  run: async (call) => {
    const bucket = await call.store.buckets.get(call.bucket)
    const headers = call.replyHeaders()
    headers.push('x-amz-bucket-region', bucket.region, 'x-amz-access-point-alias', 'false')
    headers.push('Content-Type', 'application/xml')
    call.send(200, headers)
  },
} as const satisfies Operation
