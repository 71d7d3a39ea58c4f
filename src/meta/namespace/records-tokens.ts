/**
 * The record of a bearer token, field by field in the order they lie (primitives: codec.ts). The id is in the key.
 *
 * A | t  token      byte flags (1 expires, 2 its parent is root); byte verbs (1 read, 2 list, 4 write, 8 delete); 32 bytes
 *                   SHA-256 of the secret; integer created ms; [integer expires ms]; text name, parent id, parent display name;
 *                   integer number of bucket patterns, text each
 *
 * The secret itself is nowhere. It is 256 random bits, so that its plain hash can be neither guessed nor looked up.
 */
import { RecordReader, recordWriter } from './codec.ts'

const TOKEN_VERBS = ['read', 'list', 'write', 'delete'] as const

export interface StoredToken {
  readonly id: string
  readonly name: string
  /** Bucket names, or patterns. */
  readonly buckets: readonly string[]
  readonly verbs: readonly (typeof TOKEN_VERBS)[number][]
  readonly parent: { readonly id: string; readonly displayName: string; readonly kind: 'root' | 'user' }
  readonly createdMs: number
  readonly expiresMs: number | undefined
  /** Hex. */
  readonly secretSha256: string
}

const FLAG_EXPIRES = 1
const FLAG_ROOT = 2
const SHA256_BYTES = 32

export function encodeToken(token: StoredToken): Uint8Array {
  const { parent, expiresMs } = token
  const writer = recordWriter.begin()
  writer.byte((expiresMs === undefined ? 0 : FLAG_EXPIRES) | (parent.kind === 'root' ? FLAG_ROOT : 0))
  writer.byte(TOKEN_VERBS.reduce((mask, verb, bit) => mask | (token.verbs.includes(verb) ? 1 << bit : 0), 0))
  writer.hex(token.secretSha256)
  writer.integer(token.createdMs)
  if (expiresMs !== undefined) writer.integer(expiresMs)
  writer.text(token.name)
  writer.text(parent.id)
  writer.text(parent.displayName)
  writer.integer(token.buckets.length)
  for (const bucket of token.buckets) writer.text(bucket)
  return writer.finish()
}

export function decodeToken(id: string, record: Uint8Array): StoredToken {
  const reader = new RecordReader(record)
  const flags = reader.byte()
  const verbs = reader.byte()
  return {
    id,
    verbs: TOKEN_VERBS.filter((_verb, bit) => (verbs & (1 << bit)) !== 0),
    secretSha256: reader.hex(SHA256_BYTES),
    createdMs: reader.integer(),
    expiresMs: (flags & FLAG_EXPIRES) === 0 ? undefined : reader.integer(),
    name: reader.text(),
    parent: {
      id: reader.text(),
      displayName: reader.text(),
      kind: (flags & FLAG_ROOT) === 0 ? 'user' : 'root',
    },
    buckets: Array.from({ length: reader.integer() }, () => reader.text()),
  }
}
