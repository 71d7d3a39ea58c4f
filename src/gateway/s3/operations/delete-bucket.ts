import type { Operation } from '../operation.ts'

export const deleteBucket = {
  name: 'DeleteBucket',
  method: 'DELETE',
  level: 'bucket',
  access: (call) => call.authorize('s3:DeleteBucket'),
  run: async (call) => {
    await call.store.buckets.delete(call.bucket)
    call.send(204, call.replyHeaders())
  },
} as const satisfies Operation
