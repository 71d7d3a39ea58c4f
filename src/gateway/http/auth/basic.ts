/** HTTP Basic (RFC 7617) with an access key and its secret. */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { Principal, UserDirectory } from '../../../store/access.ts'

export interface BasicVerifier {
  /** Who may be meant by the value of an Authorization header; undefined for what is malformed, unknown or wrong, without saying which. */
  verify(authorization: string): Principal | undefined
}

/** Longer secrets cannot be used here; those of configured users are 256 characters at most. */
const SECRET_BYTES_MAX = 1024

const BASIC = /^basic +([A-Za-z0-9+/]{1,2048}={0,2})$/i

/** An unknown access key costs what a known one costs (SECURITY-LESSONS 5.1.10). */
export function createBasicVerifier(users: UserDirectory): BasicVerifier {
  const nobodysSecret = randomBytes(32).toString('hex')
  return {
    verify(authorization) {
      const credentials = readBasic(authorization)
      if (credentials === undefined) return undefined
      const user = users.findByAccessKey(credentials.accessKey)
      const matches = isSameSecret(credentials.secretKey, user?.secretKey ?? nobodysSecret)
      return matches ? user?.principal : undefined
    },
  }
}

/** The secret may hold colons, the access key none. */
function readBasic(authorization: string): { accessKey: string; secretKey: string } | undefined {
  const encoded = BASIC.exec(authorization)?.[1]
  if (encoded === undefined) return undefined
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon < 1 ? undefined : { accessKey: text.slice(0, colon), secretKey: text.slice(colon + 1) }
}

const left = Buffer.alloc(SECRET_BYTES_MAX)
const right = Buffer.alloc(SECRET_BYTES_MAX)

/** Takes the same time wherever they differ, and however long they are. */
function isSameSecret(given: string, known: string): boolean {
  const givenBytes = Buffer.byteLength(given)
  const knownBytes = Buffer.byteLength(known)
  left.fill(0).write(given)
  right.fill(0).write(known)
  const same = timingSafeEqual(left, right)
  left.fill(0)
  right.fill(0)
  return same && givenBytes === knownBytes && knownBytes <= SECRET_BYTES_MAX
}
