/** Who may: credentials that are missing, wrong or not enough, and policies that say the same to both doors (C35). */
// needs: curl
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, bearer, sigv4, type CurlAnswer } from '../../support/curl.ts'
import { ANONYMOUS, problemOf, randomIdentity, useKv } from '../../support/kv-suite.ts'
import { refusalOf, sdkClient } from '../../support/sdk-client.ts'
import { signerOf } from '../../support/signed-calls.ts'
import { presign } from '../../support/sigv4-signer.ts'

const ANNA = randomIdentity('anna')
const allow = (Action: string | string[], Resource: string): object => ({ Effect: 'Allow', Action, Resource })
/** Anna does as she likes with what is hers, and reads what is shared. */
const POLICY = {
  Version: '2012-10-17',
  Statement: [
    allow(['s3:GetObject', 's3:PutObject', 's3:DeleteObject'], 'arn:aws:s3:::shared/anna/*'),
    allow('s3:GetObject', 'arn:aws:s3:::shared/public/*'),
    { ...allow('s3:ListBucket', 'arn:aws:s3:::shared'), Condition: { StringLike: { 's3:prefix': 'anna/*' } } },
    { Effect: 'Deny', Action: '*', Resource: 'arn:aws:s3:::shared/anna/locked/*' },
  ],
}

const suite = useKv([], (directory) => {
  const config = join(directory, 'tidegate.yaml')
  const users = [{ name: 'anna', ...ANNA, policies: [POLICY] }]
  // JSON is YAML.
  writeFileSync(config, JSON.stringify({ users, buckets: ['shared', 'private'] }))
  return { flags: ['--config', config] }
})
const { curl } = suite
let s3: S3Client
beforeAll(async () => {
  s3 = sdkClient(suite.gateway, { as: ANNA })
  const root = suite.client('shared')
  for (const key of ['anna/k', 'anna/locked/k', 'public/k', 'other/k']) await root.put(key, 'x')
})
afterAll(() => s3.destroy())

const OPERATIONS: readonly (readonly [target: string, ...args: string[]])[] = [
  [''],
  ['/shared'],
  ['/shared?watch=true&wait=0'],
  ['/shared', '--head'],
  ['/made', '-X', 'PUT'],
  ['/shared', '-X', 'DELETE'],
  ['/shared/k'],
  ['/shared/k', '--head'],
  ['/shared/k', '-X', 'PUT', '--data-binary', 'x'],
  ['/shared/k', '-X', 'DELETE'],
  ['/shared:batch', '--json', '{"operations":[{"op":"get","key":"k"}]}'],
  ['/shared:txn', '--json', '{"then":[{"op":"get","key":"k"}]}'],
  ['/shared:increment', '--json', '{"key":"k"}'],
  ['/shared:exists', '--json', '{"keys":["k"]}'],
  ['/shared:match', '--json', '{"keys":["k"]}'],
]

function statusAndCode(answer: CurlAnswer): string {
  return `${answer.status} ${answer.headers['x-tidegate-error'] ?? ''}`.trim()
}

describe('without good credentials', () => {
  it.each(OPERATIONS.map((operation) => [operation.join(' '), operation] as const))(
    '%s is 401',
    async (_name, [target, ...args]) => {
      const { root } = suite.gateway
      for (const as of [
        ANONYMOUS,
        basic({ ...root, secretKey: 'wrong' }),
        basic({ ...root, accessKey: 'AKNOBODY' }),
        bearer('tgt_made-up'),
        bearer(''),
      ]) {
        const answer = await curl(target, args, { as })
        expect(statusAndCode(answer), as.join(' ')).toBe('401 Unauthenticated')
        expect(answer.headers['www-authenticate']).toMatch(/Basic|Bearer/)
        if (!args.includes('--head')) expect(problemOf(answer)).toBe('401 Unauthenticated')
      }
      const wrong = await curl(target, args, { as: sigv4({ ...root, secretKey: 'wrong' }) })
      expect(statusAndCode(wrong)).toMatch(/^(?:401 Unauthenticated|403 AccessDenied)$/)
    },
  )

  it.each(['Made-Up x', 'Made-Up', 'Basic', 'Basic %%%', 'Basic Og==', 'Bearer', 'Bearer a b'])(
    'such as %j is 401 too',
    async (authorization) => {
      const answer = await curl('/shared/k', [], { as: ['-H', `Authorization: ${authorization}`] })
      expect(problemOf(answer)).toBe('401 Unauthenticated')
      expect(answer.headers['www-authenticate']).toMatch(/Basic|Bearer/)
    },
  )

  it('tells nothing about what there is', async () => {
    const there = await curl('/shared/public/k', [], { as: ANONYMOUS })
    const absent = await curl('/nothing/at-all', [], { as: ANONYMOUS })
    expect([there.status, absent.status]).toEqual([401, 401])
  })
})

describe('a user', () => {
  it('does what policies allow, and is told 403 for the rest', async () => {
    const asAnna = async (target: string, ...args: string[]): Promise<string> =>
      statusAndCode(await curl(target, args, { as: basic(ANNA) }))
    expect(await asAnna('/shared/anna/k')).toBe('200')
    expect(await asAnna('/shared/anna/new', '-X', 'PUT', '--data-binary', 'x')).toBe('200')
    expect(await asAnna('/shared/anna/new', '-X', 'DELETE')).toBe('204')
    expect(await asAnna('/shared/public/k')).toBe('200')
    expect(await asAnna('/shared?prefix=anna/')).toBe('200')
    expect(await asAnna('/shared?watch=true&wait=0&prefix=anna/')).toBe('200')
    // A key like others, and one of hers: nothing goes up by its dots.
    expect(await asAnna('/shared/anna/../other/k')).toBe('404 NoSuchKey')
    for (const refused of [
      asAnna('/shared/public/k', '-X', 'PUT', '--data-binary', 'x'),
      asAnna('/shared/public/k', '-X', 'DELETE'),
      asAnna('/shared/anna/locked/k'),
      asAnna('/shared/other/k'),
      asAnna('/shared/other/absent'),
      asAnna('/shared'),
      asAnna('/shared?prefix=an'),
      asAnna('/shared?watch=true&wait=0'),
      asAnna('/private/k'),
      asAnna('/private', '--head'),
      asAnna('/made-by-anna', '-X', 'PUT'),
      asAnna('/shared', '-X', 'DELETE'),
    ]) {
      expect(await refused).toBe('403 AccessDenied')
    }
    expect(problemOf(await curl('/shared/other/k', [], { as: basic(ANNA) }))).toBe('403 AccessDenied')
    const { buckets } = JSON.parse((await curl('', [], { as: basic(suite.gateway.root) })).text) as {
      buckets: unknown[]
    }
    expect(buckets).toHaveLength(2)
  })

  it('is judged key by key in a batch, and as a whole in a transaction', async () => {
    const anna = suite.client('shared', ANNA)
    const results = await anna.batch([
      { op: 'get', key: 'anna/k' },
      { op: 'get', key: 'other/k' },
      { op: 'put', key: 'other/new', value: 'x' },
      { op: 'put', key: 'anna/b', value: 'x' },
      { op: 'exists', key: 'anna/locked/k' },
      { op: 'delete', key: 'public/k' },
    ])
    expect(results.map(({ status }) => status)).toEqual([200, 403, 403, 200, 403, 403])
    const refused = { code: 'AccessDenied', status: 403 }
    // oxlint-disable-next-line unicorn/no-thenable -- the API's word
    const transaction = {
      then: [{ op: 'put', key: 'anna/t', value: 'x' } as const, { op: 'get', key: 'other/k' } as const],
    }
    await expect(anna.transaction(transaction)).rejects.toMatchObject(refused)
    expect(await anna.get('anna/t')).toBeUndefined()
    const compare = [{ key: 'other/k', target: 'value', operator: '=', operand: 'x' } as const]
    await expect(anna.transaction({ compare })).rejects.toMatchObject(refused)
    await expect(anna.increment('other/n')).rejects.toMatchObject(refused)
    await expect(anna.exists(['anna/k', 'other/k'])).rejects.toMatchObject(refused)
    await expect(anna.match(['anna/k', 'other/k'])).rejects.toMatchObject(refused)
    expect((await anna.exists(['anna/k', 'public/k'])).exists).toEqual([true, true])
    const root = suite.client('shared')
    expect((await root.exists(['other/new', 'public/k'])).exists).toEqual([false, true])
  })

  it('scans and watches only where it may list, and reads values only where it may get', async () => {
    const anna = suite.client('shared', ANNA)
    expect((await anna.scanPage({ prefix: 'anna/' })).entries.length).toBeGreaterThan(0)
    await expect(anna.scanPage({ prefix: 'other/' })).rejects.toMatchObject({ status: 403 })
    // anna/locked/k lies in what she may list, and its value is denied.
    const values = await curl('/shared?prefix=anna/&values=true', [], { as: basic(ANNA) })
    if (values.status === 200) {
      const locked = values.text.split('\n').find((line) => line.includes('anna/locked/k'))
      expect(JSON.parse(locked ?? '{"value":null}')).not.toHaveProperty('value', Buffer.from('x').toString('base64'))
    } else expect(problemOf(values)).toBe('403 AccessDenied')
  })

  it('may do by one door what it may by the other', async () => {
    const get = (Key: string): Promise<string> => refusalOf(s3.send(new GetObjectCommand({ Bucket: 'shared', Key })))
    const put = (Key: string): Promise<string> =>
      refusalOf(s3.send(new PutObjectCommand({ Bucket: 'shared', Key, Body: 'x' })))
    const status = async (target: string, ...args: string[]): Promise<number> =>
      (await curl(`/shared/${target}`, args, { as: sigv4(ANNA) })).status
    for (const key of ['anna/k', 'public/k', 'other/k', 'anna/locked/k']) {
      expect(String(await status(key)), key).toBe((await get(key)).slice(0, 3))
      expect(String(await status(key, '-X', 'PUT', '--data-binary', 'x')), key).toBe((await put(key)).slice(0, 3))
    }
  })
})

it('takes presigned URLs', async () => {
  const { http } = suite.gateway
  const signer = signerOf(suite.gateway, ANNA)
  const presigned = (key: string): string => {
    const request = { method: 'GET', target: `/kv/v1/shared/${key}`, headers: { host: new URL(http).host } }
    return presign(signer, request, { expiresSeconds: 60 }).target.slice('/kv/v1'.length)
  }
  const good = presigned('public/k')
  expect((await curl(good, [], { as: ANONYMOUS })).text).toBe('x')
  expect((await curl(good.replace('public/k', 'anna/k'), [], { as: ANONYMOUS })).status).toBeGreaterThanOrEqual(401)
  expect(statusAndCode(await curl(presigned('other/k'), [], { as: ANONYMOUS }))).toBe('403 AccessDenied')
})
