import type { Operation } from '../operation.ts'
import { uploadAddress } from './upload-part.ts'

export const abortMultipartUpload = {
  name: 'AbortMultipartUpload',
  method: 'DELETE',
  level: 'object',
  subresource: 'uploadId',
  access: (call) => call.authorize('s3:AbortMultipartUpload'),
  run: async (call) => {
    await call.store.uploads.abort(uploadAddress(call))
    call.send(204, call.replyHeaders())
  },
} as const satisfies Operation
