/**
 * Bearer tokens. A token's text is `tgt_<id>_<secret>`: 12 characters that name it, and 256 random bits in base64url that
 * prove it. Kept is the SHA-256 of the secret's text alone: against 256 random bits a slower hash protects nothing.
 *
 * A token speaks for who made it and has no rights of its own: `verify` gives that principal with the token's scope, and
 * `authorize` asks for both (SECURITY-LESSONS 5.2, 24). Metadata is asked for the token with every request, which it answers
 * from memory, so a revocation is seen by the first request after it, on every door.
 *
 * Timing (5.1, 10): every refusal costs a hash, of an unknown id too, compared with one that nothing has. Once a secret was proven, the same record is
 * proven again by comparing the secret itself, in constant time, which saves its hash. That memory hangs on the decoded
 * record: it goes when metadata lets go of the record, and a record that was written anew starts without it.
 */
import { hash, timingSafeEqual } from 'node:crypto'
import { TidegateError } from '../common/errors.ts'
import { Secret } from '../common/secret.ts'
import { TOKEN_VERBS } from './access.ts'
import { isBucketPattern } from './policy/token-scope.ts'
import type { Clock } from '../common/clock.ts'
import type { CreateTokenRequest, Principal, TokenRecord, Tokens, TokenView } from './access.ts'
import type { MetadataTokens } from './ports.ts'

export interface TokensOptions {
  readonly metadata: MetadataTokens
  readonly clock: Clock
  /** Cryptographically strong. */
  readonly randomBytes: (length: number) => Uint8Array
}

const ID_CHARACTERS = 'abcdefghijklmnopqrstuvwxyz234567'
const ID_LENGTH = 12
const SECRET_BYTES = 32
const SECRET_LENGTH = 43
const TOKEN_TEXT = /^tgt_[a-z2-7]{12}_[A-Za-z0-9_-]{43}$/
const ID_AT = 4
const SECRET_AT = ID_AT + ID_LENGTH + 1

const NAME_LENGTH_MAX = 64
const BUCKETS_MAX = 64
const TTL_MS_MIN = 1_000
/** Ten years. */
const TTL_MS_MAX = 315_360_000_000
const PAGE_ROWS = 1_000

export function createTokens(options: TokensOptions): Tokens {
  const { metadata, clock } = options
  const verifier = new TokenVerifier(options)
  return {
    async create(principal, request) {
      const parent = parentOf(principal)
      checkRequest(request)
      const { id, secret } = newToken(options.randomBytes)
      const createdMs = clock.nowMs()
      const token: TokenView = {
        id,
        name: request.name,
        buckets: [...new Set(request.buckets)],
        verbs: TOKEN_VERBS.filter((verb) => request.verbs.includes(verb)),
        parent,
        createdMs,
        expiresMs: request.ttlMs === undefined ? undefined : createdMs + request.ttlMs,
      }
      const commit = await metadata.putToken({ ...token, secretSha256: hash('sha256', secret) })
      await commit.durable
      return { token, text: new Secret(`tgt_${id}_${secret}`) }
    },

    async list(principal) {
      const found: TokenView[] = []
      for (let after: string | undefined = ''; after !== undefined;) {
        const page: TokenRecord[] = await metadata.listTokens(after, PAGE_ROWS)
        for (const record of page) if (mayManage(principal, record)) found.push(withoutHash(record))
        after = page.length < PAGE_ROWS ? undefined : page.at(-1)?.id
      }
      return found.sort((one, other) => one.createdMs - other.createdMs || (one.id < other.id ? -1 : 1))
    },

    async revoke(principal, id) {
      const record = await metadata.token(id)
      if (record === undefined || !mayManage(principal, record)) throw noSuchToken(id)
      const commit = await metadata.removeToken(id)
      await commit.durable
      if (!commit.value) throw noSuchToken(id)
    },

    verify: (text) => verifier.verify(text),
  }
}

/** Root manages every token, a user his own, a token none. */
function mayManage(principal: Principal, record: TokenRecord): boolean {
  if (principal.token !== undefined) return false
  if (principal.kind === 'root') return true
  return principal.kind === record.parent.kind && principal.id === record.parent.id
}

function parentOf(principal: Principal): TokenRecord['parent'] {
  const { id, displayName, kind, token } = principal
  if (token !== undefined) throw new TidegateError('AccessDenied', `the token ${token.id} cannot make tokens`)
  if (kind === 'anonymous') throw new TidegateError('AccessDenied', 'anonymous requests cannot make tokens')
  return { id, displayName, kind }
}

function withoutHash(record: TokenRecord): TokenView {
  const { secretSha256: _hash, ...view } = record
  return view
}

function noSuchToken(id: string): TidegateError {
  return new TidegateError('NoSuchToken', `there is no token ${JSON.stringify(id)}`, { details: { token: id } })
}

function newToken(randomBytes: TokensOptions['randomBytes']): { id: string; secret: string } {
  return {
    id: Array.from(randomBytes(ID_LENGTH), (byte) => ID_CHARACTERS.charAt(byte % ID_CHARACTERS.length)).join(''),
    secret: Buffer.from(randomBytes(SECRET_BYTES)).toString('base64url'),
  }
}

/** Letters, marks, digits, signs and single blanks; nothing that could disturb a terminal or a log. */
const NAME = /^[^\p{C}\p{Z}]+(?: [^\p{C}\p{Z}]+)*$/u

function checkRequest(request: CreateTokenRequest): void {
  const { name, buckets, verbs, ttlMs } = request
  refuseUnless(name.length <= NAME_LENGTH_MAX && NAME.test(name), () => {
    return `the name ${JSON.stringify(name)} is not 1 to ${NAME_LENGTH_MAX} printable characters`
  })
  refuseUnless(buckets.length >= 1 && buckets.length <= BUCKETS_MAX, () => {
    return `a token wants 1 to ${BUCKETS_MAX} buckets, not ${buckets.length}`
  })
  for (const bucket of buckets) {
    refuseUnless(isBucketPattern(bucket), () => {
      return `${JSON.stringify(bucket)} is no bucket name, nor a pattern of them with * and ?`
    })
  }
  refuseUnless(verbs.length > 0, () => `a token wants one or more of the verbs ${TOKEN_VERBS.join(', ')}`)
  for (const verb of verbs) {
    refuseUnless(TOKEN_VERBS.includes(verb), () => {
      return `unknown verb ${JSON.stringify(verb)}; expecting ${TOKEN_VERBS.join(', ')}`
    })
  }
  refuseUnless(ttlMs === undefined || (ttlMs >= TTL_MS_MIN && ttlMs <= TTL_MS_MAX && Number.isInteger(ttlMs)), () => {
    return `a time to live of ${(ttlMs ?? 0) / 1000} seconds is not 1 to ${TTL_MS_MAX / 1000}`
  })
}

function refuseUnless(condition: boolean, message: () => string): void {
  if (!condition) throw new TidegateError('InvalidArgument', message())
}

/** What is worked out from a record once, for as long as metadata keeps that very record decoded. */
interface Known {
  readonly principal: Principal
  /** The secret that the record's hash is of, once a request has shown it. */
  proven: Buffer | undefined
}

class TokenVerifier {
  readonly #metadata: MetadataTokens
  readonly #clock: Clock
  readonly #known = new WeakMap<TokenRecord, Known>()
  readonly #given = Buffer.alloc(SECRET_LENGTH)
  readonly #nobodysHash: string

  constructor(options: TokensOptions) {
    this.#metadata = options.metadata
    this.#clock = options.clock
    this.#nobodysHash = Buffer.from(options.randomBytes(SECRET_BYTES)).toString('hex')
  }

  async verify(text: string): Promise<Principal | undefined> {
    if (!TOKEN_TEXT.test(text)) return undefined
    const secret = text.slice(SECRET_AT)
    const record = await this.#metadata.token(text.slice(ID_AT, SECRET_AT - 1))
    if (record === undefined) {
      isHashOf(secret, this.#nobodysHash)
      return undefined
    }
    const known = this.#knownOf(record)
    if (!this.#proves(secret, record, known)) return undefined
    if (record.expiresMs !== undefined && this.#clock.nowMs() >= record.expiresMs) return undefined
    return known.principal
  }

  #proves(secret: string, record: TokenRecord, known: Known): boolean {
    if (known.proven !== undefined) {
      this.#given.write(secret, 'latin1')
      if (timingSafeEqual(this.#given, known.proven)) return true
    }
    if (!isHashOf(secret, record.secretSha256)) return false
    known.proven = Buffer.from(secret, 'latin1')
    return true
  }

  #knownOf(record: TokenRecord): Known {
    const found = this.#known.get(record)
    if (found !== undefined) return found
    const { id, buckets, verbs, parent } = record
    const known: Known = { principal: { ...parent, token: { id, buckets, verbs } }, proven: undefined }
    this.#known.set(record, known)
    return known
  }
}

function isHashOf(secret: string, sha256Hex: string): boolean {
  return timingSafeEqual(hash('sha256', secret, 'buffer'), Buffer.from(sha256Hex, 'hex'))
}
