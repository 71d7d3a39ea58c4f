/** An HTTP server that answers as a test says, and remembers what it was asked. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'

export interface SeenRequest {
  readonly method: string
  /** As it came over the wire. */
  readonly target: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

export interface FakeGateway {
  readonly url: string
  readonly seen: SeenRequest[]
  close(): Promise<void>
}

/** `answer` gets the number of the request, from 0. */
export async function fakeGateway(
  answer: (response: ServerResponse, request: SeenRequest, number: number) => void,
): Promise<FakeGateway> {
  const seen: SeenRequest[] = []
  const server: Server = createServer((request, response) => {
    buffer(request).then(
      (body) => {
        const { method = '', url: target = '', headers } = request
        const entry = { method, target, headers, body }
        seen.push(entry)
        answer(response, entry, seen.length - 1)
      },
      () => response.destroy(),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

export function sendProblem(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/problem+json', 'x-tidegate-error': code })
  response.end(JSON.stringify({ code, status, detail: `a detail of ${code}`, requestId: '0123456789ABCDEF', key: 'k' }))
}
