import { assert } from '../../common/assert.ts'
import { compilePattern, parsePattern } from './pattern.ts'
import type { TokenScope, TokenVerb } from '../access.ts'
import type { S3ActionName, TidegateActionName } from './actions.ts'
import type { TextMatcher } from './pattern.ts'

/**
 * What a token's verbs cover, action by action. `never`: no token may, whatever its verbs: buckets and their configuration,
 * retention, access control, and tokens themselves, so that one cannot make another that lives longer. A new action does not
 * compile until it stands here; one that is not known at all is denied.
 */
const S3_VERBS: Readonly<Record<S3ActionName, TokenVerb | 'never'>> = {
  AbortMultipartUpload: 'write',
  BypassGovernanceRetention: 'never',
  CreateBucket: 'never',
  DeleteBucket: 'never',
  DeleteBucketPolicy: 'never',
  DeleteBucketWebsite: 'never',
  DeleteObject: 'delete',
  DeleteObjectTagging: 'write',
  DeleteObjectVersion: 'delete',
  DeleteObjectVersionTagging: 'write',
  GetAccelerateConfiguration: 'never',
  GetAnalyticsConfiguration: 'never',
  GetBucketAcl: 'never',
  GetBucketCORS: 'never',
  GetBucketLocation: 'never',
  GetBucketLogging: 'never',
  GetBucketNotification: 'never',
  GetBucketObjectLockConfiguration: 'never',
  GetBucketOwnershipControls: 'never',
  GetBucketPolicy: 'never',
  GetBucketPolicyStatus: 'never',
  GetBucketPublicAccessBlock: 'never',
  GetBucketRequestPayment: 'never',
  GetBucketTagging: 'never',
  GetBucketVersioning: 'never',
  GetBucketWebsite: 'never',
  GetEncryptionConfiguration: 'never',
  GetIntelligentTieringConfiguration: 'never',
  GetInventoryConfiguration: 'never',
  GetLifecycleConfiguration: 'never',
  GetMetricsConfiguration: 'never',
  GetObject: 'read',
  GetObjectAcl: 'read',
  GetObjectAttributes: 'read',
  GetObjectLegalHold: 'read',
  GetObjectRetention: 'read',
  GetObjectTagging: 'read',
  GetObjectTorrent: 'read',
  GetObjectVersion: 'read',
  GetObjectVersionAcl: 'read',
  GetObjectVersionAttributes: 'read',
  GetObjectVersionForReplication: 'read',
  GetObjectVersionTagging: 'read',
  GetObjectVersionTorrent: 'read',
  GetReplicationConfiguration: 'never',
  ListAllMyBuckets: 'list',
  ListBucket: 'list',
  ListBucketMultipartUploads: 'list',
  ListBucketVersions: 'list',
  ListMultipartUploadParts: 'list',
  PutAccelerateConfiguration: 'never',
  PutAnalyticsConfiguration: 'never',
  PutBucketAcl: 'never',
  PutBucketCORS: 'never',
  PutBucketLogging: 'never',
  PutBucketNotification: 'never',
  PutBucketObjectLockConfiguration: 'never',
  PutBucketOwnershipControls: 'never',
  PutBucketPolicy: 'never',
  PutBucketPublicAccessBlock: 'never',
  PutBucketRequestPayment: 'never',
  PutBucketTagging: 'never',
  PutBucketVersioning: 'never',
  PutBucketWebsite: 'never',
  PutEncryptionConfiguration: 'never',
  PutIntelligentTieringConfiguration: 'never',
  PutInventoryConfiguration: 'never',
  PutLifecycleConfiguration: 'never',
  PutMetricsConfiguration: 'never',
  PutObject: 'write',
  PutObjectAcl: 'never',
  PutObjectLegalHold: 'never',
  PutObjectRetention: 'never',
  PutObjectTagging: 'write',
  PutObjectVersionAcl: 'never',
  PutObjectVersionTagging: 'write',
  PutReplicationConfiguration: 'never',
  ReplicateDelete: 'never',
  ReplicateObject: 'never',
  ReplicateTags: 'never',
  RestoreObject: 'never',
}

const TIDEGATE_VERBS: Readonly<Record<TidegateActionName, TokenVerb | 'never'>> = {
  AttachBucket: 'never',
  ChangeAttachment: 'never',
  ControlCluster: 'never',
  ControlFlush: 'never',
  ControlWriteBack: 'never',
  CreateBackup: 'never',
  CreateToken: 'never',
  DetachBucket: 'never',
  DropBackup: 'never',
  GetAttachment: 'never',
  GetCluster: 'never',
  GetFlush: 'never',
  ImportAttachment: 'never',
  ListAttachments: 'never',
  ListBackups: 'never',
  ListConflicts: 'never',
  ListTokens: 'never',
  // It says no more than "look again at this key", and who sends such messages had better have no more than a token.
  NotifyAttachment: 'write',
  ResolveConflict: 'never',
  RevokeToken: 'never',
}

/** By action, as doors name it. */
const VERB_BY_ACTION: ReadonlyMap<string, TokenVerb | 'never'> = new Map([
  ...Object.entries(S3_VERBS).map(([name, verb]) => [`s3:${name}`, verb] as const),
  ...Object.entries(TIDEGATE_VERBS).map(([name, verb]) => [`tidegate:${name}`, verb] as const),
])

/** The one action of a token that concerns no bucket: the door shows only those that the token may list. */
const WITHOUT_BUCKET = 's3:ListAllMyBuckets'

export interface TokenScopes {
  allow(scope: TokenScope, action: string, bucket: string | undefined): boolean
}

interface CompiledScope {
  readonly verbs: ReadonlySet<string>
  readonly buckets: readonly TextMatcher[]
}

/** Scopes are compiled once, and forgotten with the value that was handed in. */
export function createTokenScopes(): TokenScopes {
  const compiled = new WeakMap<TokenScope, CompiledScope>()
  return {
    allow(scope, action, bucket) {
      let known = compiled.get(scope)
      if (known === undefined) compiled.set(scope, (known = compileScope(scope)))
      const verb = VERB_BY_ACTION.get(action)
      if (verb === undefined || verb === 'never' || !known.verbs.has(verb)) return false
      if (bucket === undefined) return action === WITHOUT_BUCKET
      return known.buckets.some((matches) => matches(bucket))
    },
  }
}

/** What a pattern of bucket names may hold: the characters of a name, and the two wildcards. */
const BUCKET_PATTERN = /^[a-z0-9.*?-]{1,63}$/

export function isBucketPattern(text: string): boolean {
  return BUCKET_PATTERN.test(text)
}

function compileScope(scope: TokenScope): CompiledScope {
  return { verbs: new Set(scope.verbs), buckets: scope.buckets.map(compileBucketPattern) }
}

function compileBucketPattern(source: string): TextMatcher {
  assert(isBucketPattern(source), `a token was made with the bucket ${JSON.stringify(source)}`)
  return compilePattern(parsePattern(source, {}, (what) => new Error(what)))
}
