/** A server that speaks as much S3 as a test tells it to, over raw sockets: it may also break off, stand still, or say what is not so. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { nodeFileSystem } from '../../../../src/persist/node-file-system.ts'
import type { RemoteStore } from '../../../../src/persist/remote/ports.ts'
import { createS3Store, type S3StoreOptions } from '../../../../src/persist/remote/s3-store.ts'

export interface ScriptedRequest {
  /** `PUT /bucket/prefix/name?partNumber=1`, without what the SDK adds for itself. */
  readonly line: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

/** Answers the request, or breaks off. `attempt` counts the requests with the same line, from 1. */
export type Script = (request: ScriptedRequest, response: ServerResponse, attempt: number) => void

export interface ScriptedS3 {
  readonly requests: ScriptedRequest[]
  readonly store: RemoteStore
  readonly endpoint: string
  lines(): string[]
  stop(): Promise<void>
}

export const SECRET = 'a-secret-that-nobody-may-see'

export async function startScriptedS3(script: Script, options: Partial<S3StoreOptions> = {}): Promise<ScriptedS3> {
  const requests: ScriptedRequest[] = []
  const server = createServer((message, response) => {
    message.on('error', () => undefined)
    response.on('error', () => undefined)
    buffer(message).then(
      (body) => {
        const line = `${message.method} ${message.url}`.replace(/[?&]x-id=\w+/, '')
        const request = { line, headers: message.headers, body }
        requests.push(request)
        script(request, response, requests.filter((one) => one.line === line).length)
      },
      () => undefined,
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const store = createS3Store(
    {
      bucket: 'bucket',
      prefix: 'prefix',
      endpoint,
      region: 'us-east-1',
      style: 'path',
    },
    {
      fileSystem: nodeFileSystem,
      timeoutMs: 400,
      attemptsMax: 3,
      credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: SECRET },
      ...options,
    },
  )
  return {
    requests,
    store,
    endpoint,
    lines: () => requests.map(({ line }) => line),
    stop: async () => {
      await store.stop()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

export function refuse(
  response: ServerResponse,
  status: number,
  code: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/xml', ...headers })
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>said by the test</Message></Error>`)
}

export function answer(response: ServerResponse, xml: string): void {
  response.writeHead(200, { 'content-type': 'application/xml' })
  response.end(`<?xml version="1.0" encoding="UTF-8"?>${xml}`)
}
