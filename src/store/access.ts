/**
 * Who may do what (C35). One function decides for every door; doors name the action in IAM's words (`s3:GetObject`) and
 * the resource by bucket and key, the same strings that the store then uses (SECURITY-LESSONS 5.2, 11).
 */
export interface Principal {
  /** `anonymous` for unsigned requests; `root` for the root user. */
  readonly id: string
  readonly displayName: string
  readonly kind: 'root' | 'user' | 'anonymous'
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
