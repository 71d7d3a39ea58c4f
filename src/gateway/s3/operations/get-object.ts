import type { ContentHeaders } from '../../../common/model.ts'
import type { OpenedObject } from '../../../store/types.ts'
import { sendContent } from '../../http/body/send.ts'
import type { Call } from '../call.ts'
import { readConditions } from '../conditions.ts'
import { hideMissingKey } from '../missing-key.ts'
import { pushObjectHeaders, pushTaggingCount, responseOverrides } from '../object-headers.ts'
import type { Operation } from '../operation.ts'
import { pushSelection, selectBytes, type Selection } from '../selection.ts'
import { sendNotModified } from '../not-modified.ts'

export const getObject = {
  name: 'GetObject',
  method: 'GET',
  level: 'object',
  features: true,
  access: (call) => call.authorize(call.versionId === undefined ? 's3:GetObject' : 's3:GetObjectVersion'),
  run: async (call) => {
    const overrides = responseOverrides(call)
    let opened: OpenedObject
    try {
      opened = await call.store.objects.open(call.address, readConditions(call))
    } catch (error) {
      if (await sendNotModified(call, error)) return
      throw hideMissingKey(call, error)
    }
    try {
      await answer(call, opened, overrides)
    } finally {
      call.store.reading.close(opened.reader)
    }
  },
} as const satisfies Operation

async function answer(call: Call, opened: OpenedObject, overrides: ContentHeaders): Promise<void> {
  const { version } = opened
  const selection = await selectBytes(call, opened)
  const headers = call.replyHeaders()
  pushObjectHeaders(headers, version, overrides)
  pushTaggingCount(headers, version, call)
  pushSelection(headers, selection, version)
  const { response, exchange } = call
  const head = (): void => void response.writeHead(selection.partial ? 206 : 200, headers)
  if (version.body.kind === 'inline') {
    head()
    response.end(inlineBytes(version.body.bytes, selection))
    exchange.bytesOut += selection.length
    return
  }
  if (selection.length === 0) head()
  const range = { reader: opened.reader, offset: selection.offset, length: selection.length, begin: head }
  exchange.bytesOut += await sendContent(response, call.store.reading, range)
  response.end()
}

function inlineBytes(bytes: Uint8Array, selection: Selection): Uint8Array {
  if (selection.length === bytes.length) return bytes
  return bytes.subarray(selection.offset, selection.offset + selection.length)
}
