import type { ValueOperation } from './value-call.ts'
import { absentToUnmatched, unmatched } from './value-conditions.ts'

export const deleteValue: ValueOperation = {
  name: 'KvDelete',
  method: 'DELETE',
  action: 's3:DeleteObject',
  parameters: [],
  run: async (call) => {
    const { conditions, ack, address } = call
    const result = await call.store.objects.delete(address, conditions, ack).catch((error: unknown) => {
      throw absentToUnmatched(error, conditions)
    })
    // For the store a delete of nothing is a success, whatever it asks; it has then done nothing.
    if (!result.existed && conditions.ifMatch !== undefined) throw unmatched()
    const headers = call.replyHeaders()
    headers.push('x-tidegate-existed', String(result.existed), 'x-tidegate-revision', String(result.revision))
    if (result.versionId !== undefined) headers.push('x-tidegate-version-id', result.versionId)
    call.response.writeHead(204, headers).end()
  },
}
