import { createHmac, hash, timingSafeEqual } from 'node:crypto'
import { assert } from '../../../common/assert.ts'

/**
 * SigV4 signing keys and what is done with them.
 *
 * HMAC-SHA256 is written out as its two hashes (RFC 2104): the padded key is laid down once per key, in front of the
 * room for the message, so that one signature costs two one-shot hashes and no allocation but the result. That is
 * measurably cheaper than `createHmac`, which builds and tears down a context for every call.
 */
const BLOCK_BYTES = 64
const DIGEST_BYTES = 32
const MESSAGE_BYTES_MAX = 1024

export class SigningKey {
  /** 32 bytes; chunk signatures of the body are verified with them. */
  readonly bytes: Uint8Array
  readonly #inner: Buffer
  readonly #outer: Buffer

  constructor(bytes: Uint8Array) {
    assert(bytes.length === DIGEST_BYTES, 'a signing key is an HMAC-SHA256')
    this.bytes = bytes
    this.#inner = Buffer.alloc(BLOCK_BYTES + MESSAGE_BYTES_MAX, 0x36)
    this.#outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES, 0x5c)
    bytes.forEach((byte, index) => {
      this.#inner[index] = byte ^ 0x36
      this.#outer[index] = byte ^ 0x5c
    })
  }

  /** HMAC-SHA256 of an ASCII text of at most 1 KiB, as 64 lower-case hex digits. */
  sign(message: string): string {
    assert(message.length <= MESSAGE_BYTES_MAX, 'a string to sign is short')
    const length = this.#inner.write(message, BLOCK_BYTES, 'latin1')
    const inner = hash('sha256', this.#inner.subarray(0, BLOCK_BYTES + length), 'latin1')
    this.#outer.write(inner, BLOCK_BYTES, 'latin1')
    return hash('sha256', this.#outer, 'hex')
  }
}

/** What a signing key is for: the tail of the credential, `date/region/service/aws4_request`. */
export interface CredentialScope {
  /** `YYYYMMDD`. */
  readonly date: string
  readonly region: string
  readonly service: string
}

export function scopeText(scope: CredentialScope): string {
  return `${scope.date}/${scope.region}/${scope.service}/aws4_request`
}

export function deriveSigningKey(secretKey: string, scope: CredentialScope): Buffer {
  let key: Buffer | string = `AWS4${secretKey}`
  for (const part of [scope.date, scope.region, scope.service, 'aws4_request']) {
    key = createHmac('sha256', key).update(part).digest()
  }
  return key as Buffer
}

const SIGNATURE_DIGITS = 64
const left64 = Buffer.alloc(SIGNATURE_DIGITS)
const right64 = Buffer.alloc(SIGNATURE_DIGITS)

/**
 * Whether a claimed signature is the computed one (64 hex digits), in a time that does not tell where they differ. One
 * of another length or with characters that are not ASCII is none.
 */
export function isSignature(computed: string, claimed: string): boolean {
  left64.write(computed, 'latin1')
  // The UTF-8 of a longer text is cut, but its length has been told apart by then.
  right64.write(claimed, 'utf8')
  return timingSafeEqual(left64, right64) && claimed.length === SIGNATURE_DIGITS
}

/** Derived keys, least recently used first out: deriving one costs more than all the rest of a verification. */
export class SigningKeyCache {
  readonly #entriesMax: number
  readonly #entries = new Map<string, { readonly secretKey: string; readonly key: SigningKey }>()

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax
  }

  get(accessKey: string, secretKey: string, scope: CredentialScope): SigningKey {
    const name = `${accessKey}/${scopeText(scope)}`
    const found = this.#entries.get(name)
    // A secret that was replaced must not go on working.
    if (found?.secretKey === secretKey) {
      if (this.#entries.size > this.#entriesMax / 2) this.#touch(name, found)
      return found.key
    }
    const key = new SigningKey(deriveSigningKey(secretKey, scope))
    this.#touch(name, { secretKey, key })
    if (this.#entries.size > this.#entriesMax) this.#dropOldest()
    return key
  }

  get size(): number {
    return this.#entries.size
  }

  #touch(name: string, entry: { readonly secretKey: string; readonly key: SigningKey }): void {
    this.#entries.delete(name)
    this.#entries.set(name, entry)
  }

  #dropOldest(): void {
    for (const name of this.#entries.keys()) {
      this.#entries.delete(name)
      return
    }
  }
}
