import { deleteConditions } from '../conditions.ts'
import type { Operation } from '../operation.ts'

export const deleteObject = {
  name: 'DeleteObject',
  method: 'DELETE',
  level: 'object',
  ack: true,
  access: (call) => call.authorize(call.versionId === undefined ? 's3:DeleteObject' : 's3:DeleteObjectVersion'),
  run: async (call) => {
    const result = await call.store.objects.delete(call.address, deleteConditions(call), call.ack)
    const headers = call.replyHeaders()
    if (result.versionId !== undefined) headers.push('x-amz-version-id', result.versionId)
    if (result.deleteMarker) headers.push('x-amz-delete-marker', 'true')
    call.send(204, headers)
  },
} as const satisfies Operation
