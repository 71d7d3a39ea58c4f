import type { Secret } from '../common/secret.ts'

/**
 * Who may do what (C35). One function decides for every door; doors name the action in IAM's words (`s3:GetObject`) and
 * the resource by bucket and key, the same strings that the store then uses (SECURITY-LESSONS 5.2, 11).
 */
export interface Principal {
  /** `anonymous` for unsigned requests; `root` for the root user. */
  readonly id: string
  readonly displayName: string
  readonly kind: 'root' | 'user' | 'anonymous'
  /** Set when a token speaks for the user: then only what both the token's scope and the user's policies allow (5.2, 24). */
  readonly token?: TokenScope | undefined
}

export const TOKEN_VERBS = ['read', 'list', 'write', 'delete'] as const
/**
 * `read`: values, their attributes, and whether keys exist. `list`: names of keys and of buckets, and watching. `write`: values and
 * attributes. `delete`: keys and versions. No verb covers making or deleting buckets, their configuration, or tokens.
 */
export type TokenVerb = (typeof TOKEN_VERBS)[number]

export interface TokenScope {
  readonly id: string
  /** Bucket names, or patterns with `*` and `?`. */
  readonly buckets: readonly string[]
  readonly verbs: readonly TokenVerb[]
}

/** A bearer token as it is kept: only a hash of its secret (the secret is 256 random bits, so a plain hash does). */
export interface TokenRecord extends TokenScope {
  readonly name: string
  /** Who made it, and for whom it speaks. */
  readonly parent: { readonly id: string; readonly displayName: string; readonly kind: 'root' | 'user' }
  readonly createdMs: number
  readonly expiresMs: number | undefined
  /** Hex. */
  readonly secretSha256: string
}

export type TokenView = Omit<TokenRecord, 'secretSha256'>

export interface CreateTokenRequest {
  /** For people, to tell tokens apart. */
  readonly name: string
  readonly buckets: readonly string[]
  readonly verbs: readonly TokenVerb[]
  /** Undefined: it is good until it is revoked. */
  readonly ttlMs: number | undefined
}

/** Bearer tokens. Who may call `create`, `list` and `revoke` at all is for `authorize` to say; a token never may. */
export interface Tokens {
  /**
   * `text` is what a client sends, shown once and kept nowhere. Durable when it resolves.
   * @throws InvalidArgument, InvalidRequest when there are too many, AccessDenied for who cannot have tokens
   */
  create(principal: Principal, request: CreateTokenRequest): Promise<{ token: TokenView; text: Secret }>
  /** Root's are all, a user's his own. The oldest first. */
  list(principal: Principal): Promise<TokenView[]>
  /** Durable when it resolves; requests that begin from then on are refused. @throws NoSuchToken, also when it is another user's */
  revoke(principal: Principal, id: string): Promise<void>
  /** For whom a token's text speaks, and its scope; undefined for what is unknown, revoked or expired, without saying which. */
  verify(text: string): Promise<Principal | undefined>
}

export interface AccessResource {
  readonly bucket?: string | undefined
  /** Undefined for actions on the bucket itself. */
  readonly key?: string | undefined
}

/** Facts that policy conditions may ask for. Keys are IAM's, in lower case: `s3:prefix`, `aws:sourceip`, ... */
export type AccessContext = Readonly<Record<string, string | undefined>>

export interface AccessControl {
  /** @throws AccessDenied unless a policy of the principal allows it and none denies it (deny by default) */
  authorize(principal: Principal, action: string, resource: AccessResource, context: AccessContext): void
}

/** Who the HTTP doors may find behind an access key. */
export interface UserDirectory {
  /** The secret is for verifying signatures and nothing else: it is never shown, logged or serialised. */
  findByAccessKey(accessKey: string): { readonly principal: Principal; readonly secretKey: string } | undefined
}

/**
 * Keys that a policy's condition may ask for: those that the doors fill in (`requestFacts` in gateway/http/auth), and the
 * four that `authorize` knows itself. A document that asks for another is refused, since its answer would always be
 * "absent" (C36).
 */
export const CONDITION_KEYS = [
  'aws:currenttime',
  'aws:epochtime',
  'aws:referer',
  'aws:securetransport',
  'aws:sourceip',
  'aws:useragent',
  'aws:userid',
  'aws:username',
  's3:authtype',
  's3:delimiter',
  's3:max-keys',
  's3:prefix',
  's3:signatureversion',
  's3:versionid',
  's3:x-amz-acl',
  's3:x-amz-content-sha256',
  's3:x-amz-copy-source',
  's3:x-amz-metadata-directive',
  's3:x-amz-storage-class',
] as const

export type ConditionKey = (typeof CONDITION_KEYS)[number]

export const ANONYMOUS: Principal = { id: 'anonymous', displayName: 'anonymous', kind: 'anonymous' }
