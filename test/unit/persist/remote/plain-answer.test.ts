import { expect, test } from 'vitest'
import { isInterim, parseHead, plainLength, refusalBody } from '../../../../src/persist/remote/plain-answer.ts'

function head(text: string): NonNullable<ReturnType<typeof parseHead>> {
  const parsed = parseHead(Buffer.from(text, 'latin1'), 'read name')
  if (!parsed) throw new Error('the head is not all there')
  return parsed
}

test('a head is read once it is all there, names in any case, spaces around values or none', () => {
  const text = 'HTTP/1.1 206 Partial Content\r\nContent-Length:  7 \r\nETAG:"a"\r\nx-a: 1\r\nX-A: 2\r\n\r\nbody'
  for (let length = 0; length < text.length - 4; length++) {
    expect(parseHead(Buffer.from(text.slice(0, length)), 'read name')).toBeUndefined()
  }
  const { status, headers, bytes, staysOpen } = head(text)
  expect([status, { ...headers }, text.slice(bytes), staysOpen]).toEqual([
    206,
    { 'content-length': '7', etag: '"a"', 'x-a': '1, 2' },
    'body',
    true,
  ])
  expect(head('HTTP/1.1 200\r\n\r\n').status).toBe(200)
  expect(isInterim(head('HTTP/1.1 100 Continue\r\n\r\n'))).toBe(true)
})

test.each([
  ['another protocol', 'SSH-2.0-x\r\n\r\n'],
  ['another version', 'HTTP/2 200 OK\r\n\r\n'],
  ['a header without a name', 'HTTP/1.1 200 OK\r\n: x\r\n\r\n'],
  ['a space before the colon', 'HTTP/1.1 200 OK\r\nContent-Length : 7\r\n\r\n'],
  ['a header that is folded', 'HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n'],
  ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 7\r\ncontent-length: 8\r\n\r\n'],
  ['two transfer codings', 'HTTP/1.1 200 OK\r\ntransfer-encoding: a\r\nTransfer-Encoding: b\r\n\r\n'],
  ['no end', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(70_000)}`],
])('a head with %s is a bad answer', (_name, text) => {
  expect(() => head(text)).toThrow(expect.objectContaining({ code: 'Unavailable' }))
})

test('a connection stays open in HTTP/1.1 unless the answer says otherwise', () => {
  expect(head('HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n').staysOpen).toBe(false)
  expect(head('HTTP/1.0 200 OK\r\n\r\n').staysOpen).toBe(false)
})

test('a length is digits, and counts only without a transfer coding', () => {
  expect(plainLength(head('HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n'))).toBe(12)
  for (const header of [
    'x: y',
    'content-length: -1',
    'content-length: 0x1',
    'content-length: 1, 1',
    'content-length:',
  ]) {
    expect(plainLength(head(`HTTP/1.1 200 OK\r\n${header}\r\n\r\n`))).toBeUndefined()
  }
  expect(
    plainLength(head('HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n')),
  ).toBeUndefined()
})

test('the body of a refusal is delimited by its length, in chunks, or by the end of the connection', () => {
  const byLength = head('HTTP/1.1 404 No\r\ncontent-length: 3\r\n\r\n')
  expect(refusalBody(byLength, Buffer.from('ab'), 'open')).toBeUndefined()
  expect(refusalBody(byLength, Buffer.from('ab'), 'ended')).toBeUndefined()
  expect(refusalBody(byLength, Buffer.from('abc'), 'open')?.toString()).toBe('abc')
  const chunked = head('HTTP/1.1 404 No\r\ntransfer-encoding: Chunked\r\n\r\n')
  for (const trailers of ['', 'x-a: b\r\nx-c: d\r\n']) {
    const sent = `3\r\nabc\r\n0000000A;x=y\r\n0123456789\r\n0\r\n${trailers}\r\n`
    for (let length = 0; length < sent.length; length++) {
      expect(refusalBody(chunked, Buffer.from(sent.slice(0, length)), 'open')).toBeUndefined()
    }
    expect(refusalBody(chunked, Buffer.from(sent), 'open')?.toString()).toBe('abc0123456789')
  }
  for (const closing of ['HTTP/1.0 404 No', 'HTTP/1.1 404 No\r\nconnection: close']) {
    const byEnd = head(`${closing}\r\n\r\n`)
    expect(refusalBody(byEnd, Buffer.from('abc'), 'open')).toBeUndefined()
    expect(refusalBody(byEnd, Buffer.from('abc'), 'ended')?.toString()).toBe('abc')
  }
  expect(refusalBody(head('HTTP/1.1 304 No\r\n\r\n'), Buffer.alloc(0), 'open')?.length).toBe(0)
})

test.each([
  ['that nothing delimits', '', ''],
  ['that is long', 'content-length: 70000', ''],
  ['in chunks that are long together', 'transfer-encoding: chunked', 'f\r\n'.padEnd(70_000, 'x')],
  ['in chunks that are none', 'transfer-encoding: chunked', 'zz\r\n'],
  ['in chunks that do not end', 'transfer-encoding: chunked', '1\r\nabc'],
  ['in another coding', 'transfer-encoding: gzip, chunked', 'x'],
])('the body of a refusal %s cannot be read', (_name, header, body) => {
  const lines = ['HTTP/1.1 503 No', ...(header === '' ? [] : [header])]
  expect(refusalBody(head(`${lines.join('\r\n')}\r\n\r\n`), Buffer.from(body), 'open')).toBe('unreadable')
})
