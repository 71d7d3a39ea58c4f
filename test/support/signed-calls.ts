/** Requests signed by hand and sent over sockets of their own. */
import type { GatewayCredentials, GatewayDoors } from './gateway-process.ts'
import { headBytes, RawConnection, type RawResponse } from './raw-http.ts'
import { signWithHeader, type SignedRequest, type Signer } from './sigv4-signer.ts'

export function signerOf(gateway: GatewayDoors, credentials: GatewayCredentials = gateway.root): Signer {
  return { ...credentials, region: 'us-east-1', service: 's3', nowMs: Date.now() }
}

export interface HandMadeCall {
  readonly method: string
  readonly target: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
  /** What x-amz-content-sha256 says; the body's own digest when absent. */
  readonly payload?: string
  readonly as?: GatewayCredentials
}

/** Signs with `host`, and with `content-length` unless the headers say how the body is framed. */
export function signCall(
  gateway: GatewayDoors,
  call: HandMadeCall,
): SignedRequest & { readonly body: Buffer; readonly signer: Signer } {
  const signer = signerOf(gateway, call.as)
  const body = Buffer.from(call.body ?? '')
  const named = Object.keys(call.headers ?? {}).map((name) => name.toLowerCase())
  const framed = named.includes('content-length') || named.includes('transfer-encoding')
  const bodyless =
    call.body === undefined && (call.method === 'GET' || call.method === 'HEAD' || call.method === 'DELETE')
  const headers = {
    host: new URL(gateway.s3).host,
    ...(framed || bodyless ? {} : { 'content-length': String(body.length) }),
    ...call.headers,
  }
  const signed = signWithHeader(
    signer,
    { method: call.method, target: call.target, headers },
    { payload: call.payload ?? body, unsigned: ['content-length', 'transfer-encoding', 'expect', 'connection'] },
  )
  return { ...signed, body, signer }
}

/** One request on a connection of its own. */
export async function sendSigned(gateway: GatewayDoors, call: HandMadeCall): Promise<RawResponse> {
  const request = signCall(gateway, call)
  return sendAlone(gateway.s3, [headBytes(request), request.body], call.method)
}

/** Whatever bytes, on a connection of their own. */
export async function sendAlone(
  origin: string,
  pieces: readonly (string | Uint8Array)[],
  method = 'GET',
): Promise<RawResponse> {
  const connection = await RawConnection.open(origin)
  try {
    await connection.send(...pieces)
    return await connection.response({ bodyless: method === 'HEAD' })
  } finally {
    connection.destroy()
  }
}
