/** Requests for single values, over a harness that is made anew for each test and must be left with nothing open. */
import { connect } from 'node:net'
import { afterEach, beforeEach, expect } from 'vitest'
import { registerValueRoutes } from '../../../../src/gateway/kv/values.ts'
import { send, type Answer, type Sent } from '../s3/door-harness.ts'
import { startKvHarness, type KvHarness } from './kv-harness.ts'

/** More than lies in the metadata, and than is hashed on the event loop. */
export const LARGE: Buffer = Buffer.from(Array.from({ length: 700_000 }, (_, index) => index % 251))

export let kv: KvHarness

beforeEach(async () => {
  kv = await startKvHarness([registerValueRoutes], { limits: { putBytesMax: 1_000_000 }, bodyIdleMsMax: 400 })
  await kv.store.buckets.create({ name: 'b', owner: 'alice', region: 'us-east-1' })
  kv.asked.length = 0
})

afterEach(async () => {
  expect({ leases: kv.store.leases, readers: kv.store.readers, bodies: kv.store.openBodies.size }).toEqual({
    leases: 0,
    readers: 0,
    bodies: 0,
  })
  await kv.stop()
})

export function ask(line: string, sent: Sent = {}): Promise<Answer> {
  const [method, path] = line.split(' ')
  return send(kv.port, `${method} /kv/v1${path}`, sent)
}

export function put(path: string, body: string | Uint8Array, headers: Record<string, string> = {}): Promise<Answer> {
  return ask(`PUT ${path}`, { body, headers })
}

/** A PUT whose framing is given, headers included; the answer as text. */
export function byHand(path: string, rest: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(kv.port, '127.0.0.1')
    let text = ''
    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => {
      text += chunk
    })
    socket.on('close', () => resolve(text))
    socket.on('error', reject)
    socket.write(`PUT /kv/v1${path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n${rest}`, 'latin1')
  })
}

/** Status and code. */
export async function outcome(answer: Promise<Answer>): Promise<string> {
  const { status, headers } = await answer
  return `${status} ${String(headers['x-tidegate-error'] ?? '')}`.trim()
}
