/** Bearer tokens from the command line: scopes, expiry, revocation, and never more than their parent may. */
// needs: curl
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, expect, it } from 'vitest'
import { runTidegate } from '../../support/command-line.ts'
import { bearer, type CurlAnswer } from '../../support/curl.ts'
import type { GatewayCredentials } from '../../support/gateway-process.ts'
import { problemOf, randomIdentity, useKv } from '../../support/kv-suite.ts'
import type { CommandResult } from '../../support/run-command.ts'

const ANNA = randomIdentity('anna')
const POLICY = {
  Version: '2012-10-17',
  Statement: [
    { Effect: 'Allow', Action: ['s3:GetObject', 's3:PutObject'], Resource: 'arn:aws:s3:::team-one/anna/*' },
    { Effect: 'Allow', Action: 'tidegate:*Token*', Resource: '*' },
  ],
}
const suite = useKv([], (directory) => {
  const config = join(directory, 'tidegate.yaml')
  const users = [{ name: 'anna', ...ANNA, policies: [POLICY] }]
  writeFileSync(config, JSON.stringify({ users, buckets: ['team-one', 'team-two', 'other'] }))
  return { flags: ['--config', config] }
})
const { curl } = suite

function tidegate(args: readonly string[], as: GatewayCredentials = suite.gateway.root): Promise<CommandResult> {
  return runTidegate(['token', ...args], {
    TIDEGATE_GATEWAY: suite.gateway.http,
    TIDEGATE_ROOT_USER: as.accessKey,
    TIDEGATE_ROOT_PASSWORD: as.secretKey,
  })
}

interface Made {
  readonly id: string
  readonly token: string
}

async function create(args: readonly string[], as?: GatewayCredentials): Promise<Made> {
  const made = await tidegate(['create', '--name', 'a test', '--json', ...args], as)
  expect(made.code, made.output).toBe(0)
  return JSON.parse(made.output) as Made
}

beforeAll(async () => {
  for (const bucket of ['team-one', 'team-two', 'other']) {
    const kv = suite.client(bucket)
    await kv.put('anna/k', 'x')
    await kv.put('bert/k', 'x')
  }
})

function status(answer: CurlAnswer): string {
  return `${answer.status} ${answer.headers['x-tidegate-error'] ?? ''}`.trim()
}

/** What a token may, of all that there is. */
async function powers(token: string, bucket: string): Promise<string[]> {
  const attempts: readonly (readonly [power: string, target: string, ...args: string[]])[] = [
    ['get', '/anna/k'],
    ['head', '/anna/k', '--head'],
    ['exists', ':exists', '--json', '{"keys":["anna/k"]}'],
    ['scan', '?keys=true'],
    ['watch', '?watch=true&wait=0'],
    ['put', '/anna/p', '-X', 'PUT', '--data-binary', 'x'],
    ['increment', ':increment', '--json', '{"key":"anna/n"}'],
    ['delete', '/anna/absent', '-X', 'DELETE'],
    ['remove', '', '-X', 'DELETE'],
  ]
  const able: string[] = []
  for (const [power, target, ...args] of attempts) {
    const outcome = status(await curl(`/${bucket}${target}`, args, { as: bearer(token) }))
    if (/^20[0-4]$/.test(outcome)) able.push(power)
    else expect(outcome, power).toBe('403 AccessDenied')
  }
  return able
}

it('may what their verbs and buckets say, and no more', async () => {
  const verbs = (...names: string[]): string[] => names.flatMap((name) => ['--verb', name])
  const reading = await create([...verbs('read'), '--bucket', 'team-one'])
  expect(await powers(reading.token, 'team-one')).toEqual(['get', 'head', 'exists'])
  expect(await powers(reading.token, 'team-two')).toEqual([])
  const listing = await create([...verbs('list'), '--bucket', 'team-*'])
  expect(await powers(listing.token, 'team-two')).toEqual(['scan', 'watch'])
  expect(await powers(listing.token, 'other')).toEqual([])
  const writing = await create([...verbs('write'), '--bucket', 'team-one', '--bucket', 'other'])
  expect((await powers(writing.token, 'team-one')).filter((power) => power !== 'increment')).toEqual(['put'])
  expect((await powers(writing.token, 'other')).filter((power) => power !== 'increment')).toEqual(['put'])
  const deleting = await create(verbs('delete'))
  expect(await powers(deleting.token, 'other')).toEqual(['delete'])
  const all = await create(verbs('read', 'list', 'write', 'delete'))
  expect(await powers(all.token, 'other')).toEqual([
    'get',
    'head',
    'exists',
    'scan',
    'watch',
    'put',
    'increment',
    'delete',
  ])
  expect(status(await curl('/made', ['-X', 'PUT'], { as: bearer(all.token) }))).toBe('403 AccessDenied')
})

it('may never more than who made them', async () => {
  const { token } = await create(['--verb', 'read', '--verb', 'write', '--verb', 'delete', '--verb', 'list'], ANNA)
  const as = bearer(token)
  expect((await curl('/team-one/anna/k', [], { as })).text).toBe('x')
  expect(status(await curl('/team-one/anna/p', ['-X', 'PUT', '--data-binary', 'x'], { as }))).toBe('200')
  expect(status(await curl('/team-one/anna/k', ['-X', 'DELETE'], { as }))).toBe('403 AccessDenied')
  expect(status(await curl('/team-one/bert/k', [], { as }))).toBe('403 AccessDenied')
  expect(status(await curl('/team-two/anna/k', [], { as }))).toBe('403 AccessDenied')
  expect(status(await curl('/team-one', [], { as }))).toBe('403 AccessDenied')
})

it('make no tokens themselves', async () => {
  const { token, id } = await create(['--verb', 'read', '--verb', 'write'])
  for (const args of [['create', '--name', 'more'], ['ls'], ['revoke', id]]) {
    const result = await runTidegate(['token', ...args], {
      TIDEGATE_GATEWAY: suite.gateway.http,
      TIDEGATE_TOKEN: token,
    })
    expect([result.code, result.output]).toEqual([1, expect.stringContaining('AccessDenied')])
  }
})

it('end when they expire', async () => {
  const { token } = await create(['--ttl', '2s'])
  expect((await curl('/other/anna/k', [], { as: bearer(token) })).status).toBe(200)
  await sleep(2_100)
  expect(problemOf(await curl('/other/anna/k', [], { as: bearer(token) }))).toBe('401 Unauthenticated')
})

it('end at once when they are revoked', async () => {
  const { token, id } = await create(['--bucket', 'other'])
  const kv = suite.client('other', { token })
  expect((await kv.get('anna/k'))?.text()).toBe('x')
  expect((await tidegate(['ls'])).output).toContain(id)
  expect((await tidegate(['revoke', id])).code).toBe(0)
  // On the connection that was used before.
  await expect(kv.get('anna/k')).rejects.toMatchObject({ code: 'Unauthenticated', status: 401 })
  expect((await tidegate(['ls'])).output).not.toContain(id)
  const again = await tidegate(['revoke', id])
  expect([again.code, again.output]).toEqual([1, expect.stringContaining('NoSuchToken')])
})

it('of others are seen and revoked by root alone', async () => {
  const mine = await create([], ANNA)
  const theirs = await create([])
  const seen = await tidegate(['ls'], ANNA)
  expect([seen.output.includes(mine.id), seen.output.includes(theirs.id)]).toEqual([true, false])
  expect((await tidegate(['revoke', theirs.id], ANNA)).code).toBe(1)
  expect((await curl('/other/anna/k', [], { as: bearer(theirs.token) })).status).toBe(200)
  expect((await tidegate(['revoke', mine.id])).code).toBe(0)
})

it('lie nowhere on the disk as they are', async () => {
  const { token } = await create([])
  const secret = Buffer.from(token.replace(/^tgt_/, '').slice(-20))
  const files = readdirSync(suite.directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  expect(files.length).toBeGreaterThan(1)
  for (const entry of files) {
    expect(readFileSync(join(entry.parentPath, entry.name)).includes(secret), entry.name).toBe(false)
  }
})
