import { describe, expect, it } from 'vitest'
import { isTidegateError } from '../../../../src/common/errors.ts'
import { TOKEN_VERBS } from '../../../../src/store/access.ts'
import { createAccessControl } from '../../../../src/store/policy.ts'
import { S3_ACTION_NAMES, TIDEGATE_ACTION_NAMES } from '../../../../src/store/policy/actions.ts'
import { isBucketPattern } from '../../../../src/store/policy/token-scope.ts'
import { stableUserId } from '../../../../src/store/users.ts'
import type { AccessControl, AccessResource, Principal, TokenScope, TokenVerb } from '../../../../src/store/access.ts'
import type { PolicyDocument, PolicyStatement } from '../../../../src/store/policy/document.ts'

const ROOT: Principal = { id: 'root', displayName: 'root', kind: 'root' }
const ALICE: Principal = { id: stableUserId('alice'), displayName: 'alice', kind: 'user' }
const ACTIONS = [
  ...S3_ACTION_NAMES.map((name) => `s3:${name}`),
  ...TIDEGATE_ACTION_NAMES.map((name) => `tidegate:${name}`),
]

function control(...policies: readonly (string | PolicyDocument)[]): AccessControl {
  return createAccessControl([{ name: 'alice', accessKey: 'a', secretKey: 's', policies }])
}

function statements(...all: readonly PolicyStatement[]): PolicyDocument {
  return { Version: '2012-10-17', Statement: all }
}

function tokenOf(parent: Principal, verbs: readonly TokenVerb[], buckets: readonly string[] = ['*']): Principal {
  const token: TokenScope = { id: 'abc', verbs, buckets }
  return { ...parent, token }
}

function may(
  access: AccessControl,
  principal: Principal,
  action: string,
  resource: AccessResource = { bucket: 'b', key: 'k' },
): boolean {
  try {
    access.authorize(principal, action, resource, {})
    return true
  } catch (error) {
    if (!isTidegateError(error, 'AccessDenied')) throw error
    return false
  }
}

describe('authorize with a token (C35)', () => {
  it('covers what its verbs say, and for each action at most one verb does', () => {
    const access = control()
    const byVerb = (action: string): TokenVerb[] =>
      TOKEN_VERBS.filter((verb) => may(access, tokenOf(ROOT, [verb]), action, { bucket: 'b', key: 'k' }))
    expect(byVerb('s3:GetObject')).toEqual(['read'])
    expect(byVerb('s3:GetObjectVersion')).toEqual(['read'])
    expect(byVerb('s3:GetObjectTagging')).toEqual(['read'])
    expect(byVerb('s3:ListBucket')).toEqual(['list'])
    expect(byVerb('s3:ListBucketVersions')).toEqual(['list'])
    expect(byVerb('s3:PutObject')).toEqual(['write'])
    expect(byVerb('s3:AbortMultipartUpload')).toEqual(['write'])
    expect(byVerb('s3:DeleteObject')).toEqual(['delete'])
    expect(byVerb('s3:DeleteObjectVersion')).toEqual(['delete'])
    for (const action of ACTIONS) expect(byVerb(action).length, action).toBeLessThanOrEqual(1)
  })

  it('never makes or deletes buckets, changes their configuration, or manages tokens, with every verb and for root', () => {
    const access = control()
    const all = tokenOf(ROOT, TOKEN_VERBS)
    const allowed = ACTIONS.filter((action) => may(access, all, action, { bucket: 'b' }))
    expect(allowed.filter((action) => /Bucket(?!Versions|MultipartUploads)/.test(action)).sort()).toEqual([
      's3:ListAllMyBuckets',
      's3:ListBucket',
    ])
    expect(
      allowed.filter((action) => /Configuration|Acl$|Policy|Retention|LegalHold|Governance|Replicat/.test(action)),
    ).toEqual([
      's3:GetObjectAcl',
      's3:GetObjectLegalHold',
      's3:GetObjectRetention',
      's3:GetObjectVersionAcl',
      's3:GetObjectVersionForReplication',
    ])
    for (const action of TIDEGATE_ACTION_NAMES) expect(may(access, all, `tidegate:${action}`, {})).toBe(false)
  })

  it('denies an action that is not in the table, in another spelling, or a wildcard (lesson 5.2.1)', () => {
    const access = control()
    const all = tokenOf(ROOT, TOKEN_VERBS)
    for (const action of ['s3:getobject', 's3:*', '*', 's3:NewThing', 'constructor', '__proto__', '']) {
      expect(may(access, all, action), action).toBe(false)
    }
  })

  it('keeps to its buckets', () => {
    const access = control()
    const scoped = tokenOf(ROOT, TOKEN_VERBS, ['config', 'team-*', 'log-?'])
    const allowed = (bucket: string): boolean => may(access, scoped, 's3:GetObject', { bucket, key: 'config' })
    for (const bucket of ['config', 'team-', 'team-a', 'log-1']) expect(allowed(bucket), bucket).toBe(true)
    for (const bucket of ['', 'confi', 'configs', 'ateam-a', 'log-', 'log-12', 'b'])
      expect(allowed(bucket), bucket).toBe(false)
    expect(may(access, tokenOf(ROOT, TOKEN_VERBS, []), 's3:GetObject')).toBe(false)
    expect(may(access, tokenOf(ROOT, [], ['*']), 's3:GetObject')).toBe(false)
  })

  it('may ask which buckets there are with `list`, and do nothing else that names no bucket', () => {
    const access = control()
    expect(may(access, tokenOf(ROOT, ['list'], ['none']), 's3:ListAllMyBuckets', {})).toBe(true)
    expect(may(access, tokenOf(ROOT, ['read', 'write', 'delete']), 's3:ListAllMyBuckets', {})).toBe(false)
    for (const action of ACTIONS.filter((each) => each !== 's3:ListAllMyBuckets')) {
      expect(may(access, tokenOf(ROOT, TOKEN_VERBS), action, {}), action).toBe(false)
    }
  })

  it('never goes beyond its parent: both must allow, and Deny wins (lesson 5.2.24)', () => {
    const access = control(
      statements(
        { Effect: 'Allow', Action: ['s3:GetObject', 's3:PutObject'], Resource: 'arn:aws:s3:::b/*' },
        { Effect: 'Deny', Action: 's3:GetObject', Resource: 'arn:aws:s3:::b/secret*' },
      ),
    )
    const all = tokenOf(ALICE, TOKEN_VERBS)
    expect(may(access, all, 's3:GetObject')).toBe(true)
    expect(may(access, all, 's3:GetObject', { bucket: 'b', key: 'secrets' })).toBe(false)
    expect(may(access, all, 's3:DeleteObject')).toBe(false)
    expect(may(access, all, 's3:GetObject', { bucket: 'other', key: 'k' })).toBe(false)
    expect(may(access, tokenOf(ALICE, ['write']), 's3:GetObject')).toBe(false)
    expect(may(access, tokenOf(ALICE, ['write']), 's3:PutObject')).toBe(true)
    for (const action of ACTIONS) {
      if (may(access, all, action)) expect(may(access, ALICE, action), action).toBe(true)
    }
  })

  it('loses what its parent loses, all of it when he is no longer configured (lesson 5.2.24)', () => {
    expect(may(control('readonly'), tokenOf(ALICE, TOKEN_VERBS), 's3:PutObject')).toBe(false)
    expect(may(control('readwrite'), tokenOf(ALICE, TOKEN_VERBS), 's3:PutObject')).toBe(true)
    expect(may(createAccessControl([]), tokenOf(ALICE, TOKEN_VERBS), 's3:GetObject')).toBe(false)
    const nobody: Principal = { id: 'anonymous', displayName: 'anonymous', kind: 'anonymous' }
    expect(may(control('admin'), tokenOf(nobody, TOKEN_VERBS), 's3:GetObject')).toBe(false)
  })

  it('says that it was the token', () => {
    expect(() =>
      control('admin').authorize(tokenOf(ALICE, ['read']), 's3:PutObject', { bucket: 'b', key: 'k' }, {}),
    ).toThrow('the token abc of alice is not authorized to perform s3:PutObject on "b/k"')
  })
})

it('lets policies name what is done with tokens', () => {
  const access = control(
    statements({ Effect: 'Allow', Action: ['tidegate:CreateToken', 'tidegate:list*'], Resource: '*' }),
  )
  expect(may(access, ALICE, 'tidegate:CreateToken', {})).toBe(true)
  expect(may(access, ALICE, 'tidegate:ListTokens', {})).toBe(true)
  expect(may(access, ALICE, 'tidegate:RevokeToken', {})).toBe(false)
  expect(may(control('admin'), ALICE, 'tidegate:RevokeToken', {})).toBe(true)
  expect(may(control('readwrite'), ALICE, 'tidegate:CreateToken', {})).toBe(false)
  expect(() => control(statements({ Effect: 'Deny', Action: 'tidegate:CreateTokn', Resource: '*' }))).toThrow(
    'unknown action "tidegate:CreateTokn"',
  )
})

it('knows patterns of bucket names', () => {
  for (const good of ['*', 'a', 'my.bucket-1', 'team-*', '?', 'a'.repeat(63)])
    expect(isBucketPattern(good), good).toBe(true)
  for (const bad of ['', 'A', 'a/b', '${x}', 'a b', 'a'.repeat(64), 'ä', '[ab]', 'a\n']) {
    expect(isBucketPattern(bad), bad).toBe(false)
  }
})
