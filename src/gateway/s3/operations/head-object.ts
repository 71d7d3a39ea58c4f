import type { OpenedObject } from '../../../store/types.ts'
import type { ObjectVersion } from '../../../common/model.ts'
import type { Call } from '../call.ts'
import { readConditions } from '../conditions.ts'
import { hideMissingKey } from '../missing-key.ts'
import { sendNotModified } from '../not-modified.ts'
import { pushObjectHeaders, pushTaggingCount, responseOverrides } from '../object-headers.ts'
import type { Operation } from '../operation.ts'
import { pushSelection, selectBytes, wholeObject, type Selection } from '../selection.ts'

export const headObject = {
  name: 'HeadObject',
  method: 'HEAD',
  level: 'object',
  features: true,
  access: (call) => call.authorize(call.versionId === undefined ? 's3:GetObject' : 's3:GetObjectVersion'),
  run: async (call) => {
    const overrides = responseOverrides(call)
    let found: { version: ObjectVersion; selection: Selection }
    try {
      found = await look(call)
    } catch (error) {
      if (await sendNotModified(call, error)) return
      throw hideMissingKey(call, error)
    }
    const headers = call.replyHeaders()
    pushObjectHeaders(headers, found.version, overrides)
    pushTaggingCount(headers, found.version, call)
    pushSelection(headers, found.selection, found.version)
    call.response.writeHead(found.selection.partial ? 206 : 200, headers).end()
  },
} as const satisfies Operation

/** Only a part's place needs the object to be opened. */
async function look(call: Call): Promise<{ version: ObjectVersion; selection: Selection }> {
  const conditions = readConditions(call)
  if (call.query('partNumber') === undefined && call.headers.range === undefined) {
    const version = await call.store.objects.head(call.address, conditions)
    return { version, selection: wholeObject(call, version) }
  }
  const opened: OpenedObject = await call.store.objects.open(call.address, conditions)
  try {
    return { version: opened.version, selection: await selectBytes(call, opened) }
  } finally {
    call.store.reading.close(opened.reader)
  }
}
