import { expect } from 'vitest'
import { createAuthenticator } from '../../../../../src/gateway/http/auth/authenticator.ts'
import { isAuthError } from '../../../../../src/gateway/http/auth/errors.ts'
import { createUserDirectory } from '../../../../../src/store/users.ts'
import type { Authenticator, RawRequest } from '../../../../../src/gateway/http/auth/authenticator.ts'
import type { AuthError, AuthErrorCode } from '../../../../../src/gateway/http/auth/errors.ts'
import type { Authenticated } from '../../../../../src/gateway/http/types.ts'
import { presign, signWithHeader } from '../../../../support/sigv4-signer.ts'
import type { SignedRequest, Signer } from '../../../../support/sigv4-signer.ts'

/** The credentials and the moment of the examples in S3's documentation. */
export const EXAMPLE_MS = Date.UTC(2013, 4, 24)
export const EXAMPLE: Signer = {
  accessKey: 'AKIAIOSFODNN7EXAMPLE',
  secretKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  region: 'us-east-1',
  service: 's3',
  nowMs: EXAMPLE_MS,
}
export const HOST = 'examplebucket.s3.amazonaws.com'

export interface GateOptions {
  readonly nowMs?: number
  readonly externalUrl?: string
  readonly trustedProxies?: readonly string[]
  readonly allowUnsignedPayload?: boolean
  readonly allowPresignedV2?: boolean
}

export function createGate(options: GateOptions = {}): Authenticator {
  return createAuthenticator({
    users: createUserDirectory({ root: EXAMPLE, users: [] }),
    clock: {
      nowMs: () => options.nowMs ?? EXAMPLE_MS,
      monotonicMs: () => 0,
      sleep: () => Promise.resolve(),
    },
    region: 'us-east-1',
    services: ['s3'],
    trustedProxies: options.trustedProxies ?? [],
    externalUrl: options.externalUrl,
    allowUnsignedPayload: options.allowUnsignedPayload,
    allowPresignedV2: options.allowPresignedV2,
  })
}

export function rawRequest(
  request: { method?: string; target: string; headers: Readonly<Record<string, string>> },
  overrides: Partial<RawRequest> = {},
): RawRequest {
  return {
    method: request.method ?? 'GET',
    rawTarget: request.target,
    headers: request.headers,
    rawHeaders: Object.entries(request.headers).flat(),
    remoteAddress: '192.0.2.7',
    tls: false,
    ...overrides,
  }
}

/** As Node would show headers some of which are repeated. */
export function repeatedHeaders(
  pairs: readonly (readonly [string, string])[],
): Pick<RawRequest, 'headers' | 'rawHeaders'> {
  const headers: Record<string, string> = {}
  for (const [name, value] of pairs) {
    const key = name.toLowerCase()
    headers[key] = headers[key] === undefined ? value : `${headers[key]}, ${value}`
  }
  return { headers, rawHeaders: pairs.flat() }
}

/** Runs `act`, which must throw an AuthError of this code, and gives it back. */
export function refusal(code: AuthErrorCode, act: () => unknown): AuthError {
  try {
    act()
  } catch (error) {
    if (!isAuthError(error)) throw error
    expect(error.code).toBe(code)
    return error
  }
  throw new Error(`${code} was expected`)
}

export function authenticate(request: RawRequest, options: GateOptions = {}): Authenticated {
  return createGate(options).authenticate(request)
}

export function signed(
  target: string,
  headers: Record<string, string> = {},
  options: { signer?: Signer; method?: string; payload?: string; unsigned?: string[] } = {},
): SignedRequest {
  return signWithHeader(
    options.signer ?? EXAMPLE,
    { method: options.method ?? 'GET', target, headers: { host: HOST, ...headers } },
    { payload: options.payload ?? Buffer.alloc(0), ...(options.unsigned && { unsigned: options.unsigned }) },
  )
}

export function presigned(
  target = '/b/k',
  options: Partial<Parameters<typeof presign>[2]> = {},
  headers: Record<string, string> = {},
): SignedRequest {
  const request = { method: 'GET', target, headers: { host: HOST, ...headers } }
  return presign(EXAMPLE, request, { expiresSeconds: 60, ...options })
}

export function withHeaders(request: SignedRequest, headers: Record<string, string>): RawRequest {
  return rawRequest({ ...request, headers: { ...request.headers, ...headers } })
}
