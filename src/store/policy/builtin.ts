import type { PolicyDocument } from './document.ts'

/** Policies that a user of the configuration file may name instead of writing a document. */
export const BUILTIN_POLICIES = {
  /** Everything in S3, on every bucket: objects, buckets and their configuration. */
  readwrite: allow(['s3:*']),
  /** Reads and lists everything, writes nothing. */
  readonly: allow(['s3:Get*', 's3:List*']),
  /** Puts objects, multipart uploads included, and can neither read, list nor delete any: a drop box. */
  writeonly: allow(['s3:PutObject', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts']),
  /** Everything at every door, administration included, as root; but it can be restricted by a Deny. */
  admin: allow(['*']),
} as const satisfies Record<string, PolicyDocument>

export function builtinPolicy(name: string): PolicyDocument | undefined {
  return Object.hasOwn(BUILTIN_POLICIES, name) ? BUILTIN_POLICIES[name as keyof typeof BUILTIN_POLICIES] : undefined
}

function allow(actions: readonly string[]): PolicyDocument {
  return { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: actions, Resource: '*' }] }
}
