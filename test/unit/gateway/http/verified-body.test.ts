import { hash } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { expect, it } from 'vitest'
import type { Authenticated, PayloadForm } from '../../../../src/gateway/http/types.ts'
import { verifiedBody } from '../../../../src/gateway/http/verified-body.ts'
import { ANONYMOUS } from '../../../../src/store/access.ts'

function sender(payload: PayloadForm): Authenticated {
  const origin = { host: '', address: '', secure: false }
  return { principal: ANONYMOUS, origin, form: 'header', payload, trailers: [] }
}

const chunks = ['{"a":', '1}']

it('leaves an unsigned body alone', () => {
  const body = Readable.from(chunks)
  expect(verifiedBody(sender({ kind: 'unsigned' }), body)).toBe(body)
  expect(verifiedBody(undefined, body)).toBe(body)
})

it('passes the body on that was signed, and no other (lesson 5.1.6)', async () => {
  const bytes = chunks.map((chunk) => Buffer.from(chunk))
  const verified = (sha256: string): Promise<Buffer> =>
    buffer(verifiedBody(sender({ kind: 'signed', sha256 }), Readable.from(bytes)))
  expect((await verified(hash('sha256', chunks.join('')))).toString()).toBe(chunks.join(''))
  await expect(verified(hash('sha256', 'another'))).rejects.toMatchObject({ code: 'BadDigest' })
})

it('takes the framing of aws-chunked off (lesson 5.1.7)', async () => {
  const framed = (text: string, decodedLength: number): Promise<Buffer> => {
    const payload: PayloadForm = { kind: 'chunked-unsigned-trailer', decodedLength }
    return buffer(verifiedBody(sender(payload), Readable.from([Buffer.from(text)])))
  }
  expect((await framed('7\r\n{"a":1}\r\n0\r\n\r\n', 7)).toString()).toBe('{"a":1}')
  await expect(framed('7\r\n{"a":1}\r\n', 7)).rejects.toMatchObject({ code: 'IncompleteBody' })
})

it('fails when the connection does', async () => {
  const body = new Readable({ read: () => undefined })
  const read = buffer(verifiedBody(sender({ kind: 'signed', sha256: '' }), body))
  body.push('x')
  body.destroy()
  await expect(read).rejects.toMatchObject({ code: 'IncompleteBody' })
})
