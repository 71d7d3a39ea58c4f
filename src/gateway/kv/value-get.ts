import { isTidegateError } from '../../common/errors.ts'
import type { ObjectVersion } from '../../common/model.ts'
import type { OpenedObject } from '../../store/types.ts'
import { sendPieces } from '../http/body/send.ts'
import type { ValueCall, ValueOperation } from './value-call.ts'
import { pushValue } from './value-headers.ts'
import { absentToUnmatched } from './value-conditions.ts'
import { sendNotModified } from './value-not-modified.ts'
import { pinOnRead } from './value-pin.ts'
import { answerOf, type ValueAnswer } from './value-ranges.ts'

export const getValue: ValueOperation = {
  name: 'KvGet',
  method: 'GET',
  action: 's3:GetObject',
  parameters: ['pin'],
  run: async (call) => {
    const { objects, reading } = call.store
    const { conditions } = call
    let opened: OpenedObject
    try {
      const version = await objects.head(call.address, conditions)
      // Most values are small and lie in the metadata: there is nothing to open.
      if (version.body.kind === 'inline') return answerInline(call, version, version.body.bytes)
      opened = await objects.open(call.address, conditions)
    } catch (error) {
      if (isTidegateError(error, 'NotModified')) return sendNotModified(call)
      throw absentToUnmatched(error, conditions)
    }
    try {
      await answerOpened(call, opened)
    } finally {
      reading.close(opened.reader)
    }
  },
}

function headersOf(call: ValueCall, version: ObjectVersion, answer: ValueAnswer): string[] {
  const headers = call.replyHeaders()
  headers.push('Content-Type', answer.contentType, 'Content-Length', String(answer.contentLength))
  if (answer.contentRange !== undefined) headers.push('Content-Range', answer.contentRange)
  pushValue(headers, version)
  return headers
}

function answerInline(call: ValueCall, version: ObjectVersion, bytes: Uint8Array): void {
  const answer = answerOf(call, version)
  const headers = headersOf(call, version, answer)
  if (call.parameters.pin !== undefined) headers.push('x-tidegate-pinned', '0')
  const body = answer.contentLength === bytes.length ? bytes : piecesOf(bytes, answer)
  call.exchange.bytesOut += answer.contentLength
  // As text Node sends it in one write with the head; as bytes it would be a vector of two, which takes longer.
  const buffer = Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.length)
  const text = buffer.toString('latin1')
  call.response.writeHead(answer.status, headers).end(text, 'latin1')
}

function piecesOf(bytes: Uint8Array, { parts, after }: ValueAnswer): Uint8Array {
  const [only] = parts
  if (only !== undefined && parts.length === 1) return bytes.subarray(only.offset, only.offset + only.length)
  const pieces = parts.flatMap(({ before, offset, length }) => [
    Buffer.from(before, 'latin1'),
    bytes.subarray(offset, offset + length),
  ])
  return Buffer.concat([...pieces, Buffer.from(after, 'latin1')])
}

async function answerOpened(call: ValueCall, { reader, version }: OpenedObject): Promise<void> {
  // It may have been replaced by a small one meanwhile.
  if (version.body.kind === 'inline') return answerInline(call, version, version.body.bytes)
  const { response, exchange, store } = call
  const answer = answerOf(call, version)
  const headers = headersOf(call, version, answer)
  await pinOnRead(call, version, headers)
  const pieces = answer.parts.map(({ offset, length, before }, index) => ({
    offset,
    length,
    begin: (): void => {
      if (index === 0) response.writeHead(answer.status, headers)
      if (before !== '') response.write(before, 'latin1')
    },
  }))
  exchange.bytesOut += await sendPieces(response, store.reading, { reader, pieces })
  response.end(answer.after, 'latin1')
}
