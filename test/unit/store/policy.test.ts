import { describe, expect, it } from 'vitest'
import { CONDITION_KEYS } from '../../../src/store/access.ts'
import { isTidegateError } from '../../../src/common/errors.ts'
import { createAccessControl } from '../../../src/store/policy.ts'
import { createUserDirectory, stableUserId } from '../../../src/store/users.ts'
import type { AccessContext, AccessResource, Principal } from '../../../src/store/access.ts'
import type { PolicyDocument, PolicyStatement } from '../../../src/store/policy/document.ts'

const ROOT: Principal = { id: 'root', displayName: 'root', kind: 'root' }
const NOBODY: Principal = { id: 'anonymous', displayName: 'anonymous', kind: 'anonymous' }
const ALICE: Principal = { id: stableUserId('alice'), displayName: 'alice', kind: 'user' }
const clock = { nowMs: () => Date.UTC(2026, 0, 1), monotonicMs: () => 0, sleep: () => Promise.resolve() }

function control(...policies: readonly (string | PolicyDocument)[]) {
  return createAccessControl([{ name: 'alice', accessKey: 'a', secretKey: 's', policies }], clock)
}

function statement(...statements: readonly PolicyStatement[]): PolicyDocument {
  return { Version: '2012-10-17', Statement: statements }
}

const ALLOW_ALL: PolicyStatement = { Effect: 'Allow', Action: '*', Resource: '*' }

function may(
  access: ReturnType<typeof control>,
  action: string,
  resource: AccessResource = { bucket: 'b', key: 'k' },
  context: AccessContext = {},
  principal = ALICE,
): boolean {
  try {
    access.authorize(principal, action, resource, context)
    return true
  } catch (error) {
    if (!isTidegateError(error, 'AccessDenied')) throw error
    return false
  }
}

function conditional(Condition: PolicyStatement['Condition'], context: AccessContext): boolean {
  return may(
    control(statement({ ...ALLOW_ALL, ...(Condition && { Condition }) })),
    's3:ListBucket',
    { bucket: 'b' },
    context,
  )
}

describe('authorize (C35)', () => {
  it('lets root do everything, nobody nothing, and a user nothing by default', () => {
    expect(may(control(), 's3:GetObject', {}, {}, ROOT)).toBe(true)
    expect(may(control('admin'), 's3:GetObject', {}, {}, NOBODY)).toBe(false)
    expect(may(control(), 's3:GetObject')).toBe(false)
    expect(may(control('admin'), 's3:GetObject', {}, {}, { ...ALICE, id: 'someone else' })).toBe(false)
  })

  it('says who may not do what, and on what', () => {
    expect(() => control().authorize(ALICE, 's3:GetObject', { bucket: 'b', key: 'k' }, {})).toThrow(
      'alice is not authorized to perform s3:GetObject on "b/k"',
    )
  })

  it.each([
    ['readwrite', ['s3:GetObject', 's3:PutObject', 's3:DeleteBucket', 's3:ListAllMyBuckets'], ['admin:Status']],
    [
      'readonly',
      ['s3:GetObject', 's3:GetObjectVersion', 's3:ListBucket', 's3:GetBucketLocation'],
      ['s3:PutObject', 's3:DeleteObject'],
    ],
    [
      'writeonly',
      ['s3:PutObject', 's3:AbortMultipartUpload'],
      ['s3:GetObject', 's3:ListBucket', 's3:DeleteObject', 's3:CreateBucket'],
    ],
    ['admin', ['s3:GetObject', 'admin:Status'], []],
  ] as const)('knows the built-in policy %s', (name, allowed, refused) => {
    for (const action of allowed) expect([action, may(control(name), action)]).toEqual([action, true])
    for (const action of refused) expect([action, may(control(name), action)]).toEqual([action, false])
  })

  it('lets Deny win over any Allow, in whatever order and document', () => {
    const deny: PolicyStatement = { Effect: 'Deny', Action: 's3:DeleteObject*', Resource: 'arn:aws:s3:::b/*' }
    for (const access of [
      control(statement(deny, ALLOW_ALL)),
      control(statement(ALLOW_ALL, deny)),
      control('admin', statement(deny)),
    ]) {
      expect(may(access, 's3:DeleteObject')).toBe(false)
      expect(may(access, 's3:DeleteObjectVersion')).toBe(false)
      expect(may(access, 's3:DeleteObject', { bucket: 'c', key: 'k' })).toBe(true)
      expect(may(access, 's3:GetObject')).toBe(true)
    }
  })

  it('matches actions without case, and NotAction by what it leaves', () => {
    const access = control(statement({ Effect: 'Allow', Action: ['S3:getobject', 's3:List*'], Resource: '*' }))
    expect(may(access, 's3:GetObject')).toBe(true)
    expect(may(access, 's3:ListBucketVersions')).toBe(true)
    expect(may(access, 's3:GetObjectVersion')).toBe(false)
    const but = control(statement({ Effect: 'Allow', NotAction: 's3:Delete*', Resource: '*' }))
    expect([may(but, 's3:DeleteObject'), may(but, 's3:PutObject')]).toEqual([false, true])
  })

  it.each([
    ['arn:aws:s3:::b', [['b']], [['b', 'k'], ['bb'], []]],
    [
      'arn:aws:s3:::b/*',
      [
        ['b', 'k'],
        ['b', 'a/b/c'],
        ['b', ''],
      ],
      [['b'], ['bb', 'k']],
    ],
    ['arn:aws:s3:::b*', [['b'], ['bb'], ['b', 'k']], [['c']]],
    [
      'arn:aws:s3:::b/a?c/*.txt',
      [
        ['b', 'abc/x/y.txt'],
        ['b', 'a\u{1f600}c/.txt'],
      ],
      [
        ['b', 'ac/x.txt'],
        ['b', 'abc/x.txt2'],
      ],
    ],
    ['arn:aws:s3:::*', [['b'], ['b', 'k'], []], []],
    [
      'arn:aws:s3:::b/*a*a*',
      [
        ['b', 'aa'],
        ['b', 'xaxax'],
      ],
      [['b', 'a']],
    ],
    [
      'arn:aws:s3:::b/${aws:username}/*',
      [['b', 'alice/x']],
      [
        ['b', 'bob/x'],
        ['b', '${aws:username}/x'],
      ],
    ],
    ['arn:aws:s3:::b/${*}', [['b', '*']], [['b', 'x']]],
  ] as const)('matches the resource %s', (pattern, matched, missed) => {
    const access = control(statement({ Effect: 'Allow', Action: '*', Resource: pattern }))
    const not = control(statement({ Effect: 'Allow', Action: '*', NotResource: pattern }))
    const resource = (path: readonly string[]): AccessResource => ({ bucket: path[0], key: path[1] })
    for (const path of matched)
      expect([path, may(access, 's3:GetObject', resource(path)), may(not, 's3:GetObject', resource(path))]).toEqual([
        path,
        true,
        false,
      ])
    for (const path of missed)
      expect([path, may(access, 's3:GetObject', resource(path)), may(not, 's3:GetObject', resource(path))]).toEqual([
        path,
        false,
        true,
      ])
  })

  it('takes no longer for a spiteful pattern', () => {
    const access = control(statement({ Effect: 'Allow', Action: '*', Resource: `arn:aws:s3:::b/${'*a'.repeat(100)}b` }))
    const startMs = performance.now()
    expect(may(access, 's3:GetObject', { bucket: 'b', key: 'a'.repeat(1024) })).toBe(false)
    expect(performance.now() - startMs).toBeLessThan(5_000)
  })

  it('does not read wildcards out of a user name', () => {
    const access = createAccessControl([
      {
        name: '*',
        accessKey: 'a',
        secretKey: 's',
        policies: [statement({ Effect: 'Allow', Action: '*', Resource: 'arn:aws:s3:::b/${aws:username}/x' })],
      },
    ])
    const star: Principal = { id: stableUserId('*'), displayName: '*', kind: 'user' }
    expect(may(access, 's3:GetObject', { bucket: 'b', key: 'alice/x' }, {}, star)).toBe(false)
    expect(may(access, 's3:GetObject', { bucket: 'b', key: '*/x' }, {}, star)).toBe(true)
  })
})

describe('conditions', () => {
  it.each([
    ['StringEquals', { 's3:prefix': ['a/', 'b/'] }, { 's3:prefix': 'b/' }, { 's3:prefix': 'c/' }, false],
    ['StringNotEquals', { 's3:prefix': ['a/', 'b/'] }, { 's3:prefix': 'c/' }, { 's3:prefix': 'b/' }, true],
    ['StringEqualsIgnoreCase', { 's3:prefix': 'A' }, { 's3:prefix': 'a' }, { 's3:prefix': 'b' }, false],
    ['StringLike', { 's3:prefix': '${aws:username}/*' }, { 's3:prefix': 'alice/x' }, { 's3:prefix': 'bob/x' }, false],
    ['StringNotLike', { 's3:prefix': 'a*' }, { 's3:prefix': 'b' }, { 's3:prefix': 'ab' }, true],
    ['NumericLessThanEquals', { 's3:max-keys': 10 }, { 's3:max-keys': '10' }, { 's3:max-keys': '11' }, false],
    ['NumericNotEquals', { 's3:max-keys': 10 }, { 's3:max-keys': '11' }, { 's3:max-keys': '10' }, true],
    ['NumericGreaterThan', { 's3:max-keys': 10 }, { 's3:max-keys': '11' }, { 's3:max-keys': 'many' }, false],
    [
      'Bool',
      { 'aws:SecureTransport': true },
      { 'aws:securetransport': 'true' },
      { 'aws:securetransport': 'false' },
      false,
    ],
    [
      'IpAddress',
      { 'aws:SourceIp': ['10.0.0.0/8', '2001:db8::/32'] },
      { 'aws:sourceip': '10.1.2.3' },
      { 'aws:sourceip': '11.1.2.3' },
      false,
    ],
    [
      'NotIpAddress',
      { 'aws:SourceIp': '10.0.0.0/8' },
      { 'aws:sourceip': '2001:db8::1' },
      { 'aws:sourceip': '10.0.0.1' },
      true,
    ],
  ] as const)('%s', (operator, test, holds, fails, whenAbsent) => {
    expect(conditional({ [operator]: test }, holds)).toBe(true)
    expect(conditional({ [operator]: test }, fails)).toBe(false)
    expect(conditional({ [operator]: test }, {})).toBe(whenAbsent)
    expect(conditional({ [`${operator}IfExists`]: test }, {})).toBe(true)
    expect(conditional({ [`${operator}IfExists`]: test }, fails)).toBe(false)
  })

  it('knows dates, Null, and what authorize fills in itself', () => {
    expect(conditional({ DateGreaterThan: { 'aws:CurrentTime': '2025-12-31T23:59:59Z' } }, {})).toBe(true)
    expect(conditional({ DateLessThan: { 'aws:EpochTime': '2025-12-31T23:59:59Z' } }, {})).toBe(false)
    expect(conditional({ Null: { 's3:prefix': 'true' } }, {})).toBe(true)
    expect(conditional({ Null: { 's3:prefix': false } }, {})).toBe(false)
    expect(
      conditional({ StringEquals: { 'aws:username': 'alice', 'aws:userid': ALICE.id } }, { 'aws:username': 'mallory' }),
    ).toBe(true)
  })

  it('wants every condition of a statement to hold', () => {
    const both = { StringEquals: { 's3:prefix': 'a' }, Bool: { 'aws:SecureTransport': 'true' } }
    expect(conditional(both, { 's3:prefix': 'a', 'aws:securetransport': 'true' })).toBe(true)
    expect(conditional(both, { 's3:prefix': 'a', 'aws:securetransport': 'false' })).toBe(false)
  })
})

describe('what is not known is refused when loaded (C36)', () => {
  const withStatement = (change: Record<string, unknown>): unknown => statement({ ...ALLOW_ALL, ...change })
  it.each([
    ['no such policy', 'readwirte', /"readwirte"/],
    ['an element', { ...statement(ALLOW_ALL), Extra: 1 }, /unknown element "Extra"/],
    ['a version', { ...statement(ALLOW_ALL), Version: '2020-01-01' }, /unknown Version "2020-01-01"/],
    ['no statement', { Version: '2012-10-17' }, /no Statement/],
    ['a principal', withStatement({ Principal: '*' }), /unknown element "Principal"/],
    ['an effect', withStatement({ Effect: 'allow' }), /not "allow"/],
    ['an action', withStatement({ Action: 's3:GetObjcet' }), /unknown action "s3:GetObjcet"/],
    ['a service', withStatement({ Action: ['s3:*', 'ec2:*'] }), /unknown action "ec2:\*"/],
    ['no action', withStatement({ Action: undefined }), /exactly one of Action and NotAction/],
    ['both', withStatement({ NotAction: 's3:*' }), /exactly one of Action and NotAction/],
    ['an empty list', withStatement({ Resource: [] }), /Resource: the list is empty/],
    ['a resource', withStatement({ Resource: 'b/*' }), /unknown resource "b\/\*"/],
    ['a partition', withStatement({ Resource: 'arn:aws-cn:s3:::b' }), /unknown resource/],
    ['a number', withStatement({ Resource: 5 }), /5 is no string/],
    [
      'a variable',
      withStatement({ Resource: 'arn:aws:s3:::b/${aws:PrincipalTag/x}' }),
      /unknown policy variable \$\{aws:PrincipalTag\/x\}/,
    ],
    ['an open variable', withStatement({ Resource: 'arn:aws:s3:::b/${aws:username' }), /not closed/],
    [
      'an operator',
      withStatement({ Condition: { StringEqual: { 's3:prefix': 'a' } } }),
      /StringEqual s3:prefix: unknown condition operator/,
    ],
    [
      'a set operator',
      withStatement({ Condition: { 'ForAnyValue:StringEquals': { 's3:prefix': 'a' } } }),
      /unknown condition operator/,
    ],
    ['a key', withStatement({ Condition: { StringEquals: { 's3:prefx': 'a' } } }), /s3:prefx: unknown condition key/],
    [
      'an address',
      withStatement({ Condition: { IpAddress: { 'aws:SourceIp': '10.0.0.0/40' } } }),
      /no IP address or CIDR range/,
    ],
    ['a truth', withStatement({ Condition: { Bool: { 'aws:SecureTransport': 'yes' } } }), /neither true nor false/],
    ['a date', withStatement({ Condition: { DateLessThan: { 'aws:CurrentTime': 'soon' } } }), /"soon" is no date/],
    [
      'variables in an old version',
      { Version: '2008-10-17', Statement: { ...ALLOW_ALL, Resource: 'arn:aws:s3:::${aws:username}' } },
      /need Version 2012-10-17/,
    ],
    ['no document', 7, /must be an object/],
  ])('%s', (_what, policy, message) => {
    expect(() => control(policy as PolicyDocument)).toThrow(message)
    expect(() => control(policy as PolicyDocument)).toThrow(/policy 1 of the user "alice"/)
  })

  it('has lower-case keys only, since contexts are', () => {
    for (const key of CONDITION_KEYS) expect(key).toBe(key.toLowerCase())
  })
})

describe('users', () => {
  const root = { accessKey: 'ROOT', secretKey: 'root secret' }
  const user = { name: 'alice', accessKey: 'A', secretKey: 'alice secret', policies: [] }

  it('finds them by access key, with stable ids', () => {
    const users = createUserDirectory({
      root,
      users: [user, { ...user, name: 'bob', id: 'b', displayName: 'Bob', accessKey: 'B' }],
    })
    expect(users.findByAccessKey('ROOT')?.principal).toEqual(ROOT)
    expect(users.findByAccessKey('A')).toEqual({ principal: ALICE, secretKey: 'alice secret' })
    expect(ALICE.id).toMatch(/^[0-9a-f]{64}$/)
    expect(users.findByAccessKey('B')?.principal).toEqual({ id: 'b', displayName: 'Bob', kind: 'user' })
    expect(users.findByAccessKey('constructor')).toBeUndefined()
  })

  it.each([
    [{ ...user, accessKey: 'ROOT' }, /access key "ROOT" is given twice/],
    [{ ...user, id: 'root' }, /user id "root" is given twice/],
    [{ ...user, id: 'anonymous' }, /user id "anonymous" is given twice/],
    [{ ...user, accessKey: '' }, /empty access key/],
    [{ ...user, accessKey: 'a b' }, /access key "a b"/],
    [{ ...user, secretKey: '' }, /"alice" has an empty secret key/],
    [{ ...user, name: '' }, /empty name/],
  ])('refuses %j', (wrong, message) => {
    expect(() => createUserDirectory({ root, users: [wrong] })).toThrow(message)
    try {
      createUserDirectory({ root, users: [wrong] })
    } catch (error) {
      expect(isTidegateError(error, 'InvalidArgument')).toBe(true)
      expect(String(error)).not.toContain('alice secret')
    }
  })
})
