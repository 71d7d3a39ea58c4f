/**
 * HTTP Basic (RFC 7617) with an access key and its secret.
 *
 * The header of a client is the same in every request of its, so what was proven is remembered: the last header itself, compared in
 * constant time, and others by their hash under a key of this process, from which neither a look-up nor its time tells anything of the
 * header. What was wrong is never remembered, and what is counts only while the directory says of that user what it said then.
 */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Principal, UserDirectory } from '../../../store/access.ts'

export interface BasicVerifier {
  /** Who may be meant by the value of an Authorization header; undefined for what is malformed, unknown or wrong, without saying which. */
  verify(authorization: string): Principal | undefined
}

/** Longer secrets cannot be used here; those of configured users are 256 characters at most. */
const SECRET_BYTES_MAX = 1024

const BASIC = /^basic +([A-Za-z0-9+/]{1,2048}={0,2})$/i

/** More headers than a gateway has users; those spelled otherwise (`basic`, two blanks) count again. */
const PROVEN_HEADERS_MAX = 1024

type User = NonNullable<ReturnType<UserDirectory['findByAccessKey']>>

interface Proven {
  readonly accessKey: string
  readonly user: User
}

/** An unknown access key costs what a known one costs (SECURITY-LESSONS 5.1.10). */
export function createBasicVerifier(users: UserDirectory): BasicVerifier {
  const nobodysSecret = randomBytes(32).toString('hex')
  const hashKey = randomBytes(32).toString('hex')
  const provenByHash = new Map<string, Proven>()
  const last = new LastHeader()

  const prove = (authorization: string): Proven | undefined => {
    const credentials = readBasic(authorization)
    if (credentials === undefined) return undefined
    const { accessKey, secretKey } = credentials
    const user = users.findByAccessKey(accessKey)
    const matches = isSameSecret(secretKey, user?.secretKey ?? nobodysSecret)
    return matches && user !== undefined ? { accessKey, user } : undefined
  }

  return {
    verify(authorization) {
      const latest = last.get(authorization)
      if (latest !== undefined && isStillSo(users, latest)) return latest.user.principal
      const hashed = hash('sha256', hashKey + authorization, 'hex')
      let proven = provenByHash.get(hashed)
      if (proven === undefined || !isStillSo(users, proven)) {
        proven = prove(authorization)
        if (proven === undefined) return undefined
        if (provenByHash.size >= PROVEN_HEADERS_MAX) provenByHash.clear()
        provenByHash.set(hashed, proven)
      }
      last.set(authorization, proven)
      return proven.user.principal
    },
  }
}

/** Most headers are shorter; those that are not are left to the hash. */
const LAST_HEADER_BYTES_MAX = 256

/** The header that was proven last: where there is one client, all are this one. */
class LastHeader {
  readonly #known = Buffer.alloc(LAST_HEADER_BYTES_MAX)
  readonly #given = Buffer.alloc(LAST_HEADER_BYTES_MAX)
  #knownBytes = 0
  #proven: Proven | undefined

  get(authorization: string): Proven | undefined {
    if (authorization.length > LAST_HEADER_BYTES_MAX) return undefined
    const bytes = this.#given.write(authorization)
    this.#given.fill(0, bytes)
    // As long as it takes for any other, whatever its length.
    const same = timingSafeEqual(this.#given, this.#known)
    return same && bytes === this.#knownBytes ? this.#proven : undefined
  }

  /** One that has been proven is ASCII (`BASIC`). */
  set(authorization: string, proven: Proven): void {
    if (authorization.length > LAST_HEADER_BYTES_MAX) return
    this.#knownBytes = this.#known.write(authorization)
    this.#known.fill(0, this.#knownBytes)
    this.#proven = proven
  }
}

function isStillSo(users: UserDirectory, { accessKey, user }: Proven): boolean {
  const known = users.findByAccessKey(accessKey)
  // It is the known one that is compared with: both are ours, so their time tells nobody anything.
  return known !== undefined && known.secretKey === user.secretKey && known.principal === user.principal
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
