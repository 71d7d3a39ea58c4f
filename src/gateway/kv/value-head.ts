import { isTidegateError } from '../../common/errors.ts'
import type { ObjectVersion } from '../../common/model.ts'
import type { ValueOperation } from './value-call.ts'
import { absentToUnmatched } from './value-conditions.ts'
import { contentTypeOf, pushValue } from './value-headers.ts'
import { sendNotModified } from './value-not-modified.ts'
import { pinOnRead } from './value-pin.ts'

/** Range is defined for GET alone (RFC 9110, 14.2): HEAD tells of the whole. */
export const headValue: ValueOperation = {
  name: 'KvHead',
  method: 'HEAD',
  action: 's3:GetObject',
  parameters: ['pin'],
  run: async (call) => {
    const { conditions } = call
    let version: ObjectVersion
    try {
      version = await call.store.objects.head(call.address, conditions)
    } catch (error) {
      if (isTidegateError(error, 'NotModified')) return sendNotModified(call)
      throw absentToUnmatched(error, conditions)
    }
    const headers = call.replyHeaders()
    headers.push('Content-Type', contentTypeOf(version), 'Content-Length', String(version.size))
    pushValue(headers, version)
    await pinOnRead(call, version, headers)
    call.response.writeHead(200, headers).end()
  },
}
