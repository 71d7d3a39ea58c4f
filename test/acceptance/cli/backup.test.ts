/** `tidegate backup` against a real gateway, and what a backup is for: the node is lost, and that very state comes back. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, expect, it } from 'vitest'
import { createKvClient } from '../../../src/client/kv-client.ts'
import { runTidegate } from '../../support/command-line.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { errorLines, SMALL_FLAGS, useDirectory } from '../../support/gateway-suite.ts'
import { sendSigned } from '../../support/signed-calls.ts'

const directory = useDirectory()
const FREED_MS_MAX = 30_000
const ID = /^\d{8}T\d{6}Z-[0-9a-f]{4}$/
const ABSENT = '20200101T000000Z-0000'
const LARGE_BYTES = 3_000_000
const ONLY_ON_DEMAND = ['--backup-interval', '0s']

interface Node {
  readonly gateway: GatewayProcess
  readonly store: string
  readonly remote: string
  readonly log: string
}

let nodes = 0
const started: GatewayProcess[] = []

afterAll(async () => {
  for (const gateway of started) if (gateway.child.exitCode === null) await gateway.kill()
})

/** On a store of its own, or on one that is there. */
async function start(options: { data?: string; store?: string; flags?: readonly string[] } = {}): Promise<Node> {
  const store = options.store ?? join(directory.path, `store-${nodes}`)
  const data = options.data ?? join(directory.path, `data-${nodes}`)
  const log = join(directory.path, `log-${nodes++}`)
  mkdirSync(store, { recursive: true })
  const remote = `file://${store}`
  const own = [
    '--remote',
    remote,
    '--names-interval',
    '100ms',
    '--segment-age',
    '100ms',
    '--collect-interval',
    '1s',
    '--buckets',
    'kept',
  ]
  const flags = [...SMALL_FLAGS, ...own, ...(options.flags ?? ONLY_ON_DEMAND)]
  const gateway = await startGateway({ data, flags, logFile: log })
  started.push(gateway)
  return { gateway, store, remote, log }
}

interface Answer {
  readonly code: number | null
  readonly output: string
}

function tidegate({ gateway }: Node, args: readonly string[], as = gateway.root): Promise<Answer> {
  return runTidegate(args, {
    TIDEGATE_GATEWAY: gateway.http,
    TIDEGATE_ROOT_USER: as.accessKey,
    TIDEGATE_ROOT_PASSWORD: as.secretKey,
  })
}

interface ShownBackup {
  readonly id: string
  readonly complete: boolean
  readonly ancestral: boolean
}

async function backUp(node: Node): Promise<string> {
  const { code, output } = await tidegate(node, ['backup', '--json'])
  const made = JSON.parse(output) as ShownBackup
  expect([code, made]).toMatchObject([0, { id: expect.stringMatching(ID), complete: true, ancestral: false }])
  return made.id
}

async function listed(node: Node): Promise<string[]> {
  const { code, output } = await tidegate(node, ['backup', 'list', '--json'])
  expect(code).toBe(0)
  return (JSON.parse(output) as { backups: ShownBackup[] }).backups.map(({ id }) => id)
}

async function put({ gateway }: Node, key: string, body: Buffer): Promise<void> {
  expect((await sendSigned(gateway, { method: 'PUT', target: `/kept/${key}`, body })).status).toBe(200)
}

async function remove({ gateway }: Node, key: string): Promise<void> {
  expect((await sendSigned(gateway, { method: 'DELETE', target: `/kept/${key}` })).status).toBe(204)
}

/** Undefined: it is not there. By the S3 door and, the same, by that of keys and values. */
async function bodies({ gateway }: Node, keys: readonly string[]): Promise<Record<string, Buffer | undefined>> {
  const values = createKvClient({ url: gateway.http, bucket: 'kept', ...gateway.root })
  const found: Record<string, Buffer | undefined> = {}
  try {
    for (const key of keys) {
      const answer = await sendSigned(gateway, { method: 'GET', target: `/kept/${key}` })
      found[key] = answer.status === 200 ? answer.body : undefined
      const entry = await values.get(key)
      expect([key, entry && entry.bytes.equals(answer.body)]).toEqual([key, found[key] && true])
    }
  } finally {
    values.close()
  }
  return found
}

function segments(store: string): string[] {
  const root = join(store, 'segments')
  if (!existsSync(root)) return []
  return readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.seg'))
}

async function segmentsGo(store: string, count: number): Promise<void> {
  const deadlineMs = Date.now() + FREED_MS_MAX
  while (segments(store).length > count && Date.now() < deadlineMs) await sleep(200)
  expect(segments(store).length).toBeLessThanOrEqual(count)
}

it(
  'C17: what is deleted after a backup comes back with it, and what the node before it left stays for a day',
  { timeout: 240_000 },
  async () => {
    const node = await start()
    const before = {
      large: randomBytes(LARGE_BYTES),
      tiny: Buffer.from('value'),
      'changed/later': randomBytes(LARGE_BYTES),
    }
    for (const [key, body] of Object.entries(before)) await put(node, key, body)
    const id = await backUp(node)
    const text = await tidegate(node, ['backup', 'list'])
    expect([text.code, text.output]).toEqual([0, expect.stringMatching(new RegExp(`^ID +STATE[^]*\n${id} +20`))])
    const backedUp = segments(node.store)
    expect(backedUp.length).toBeGreaterThan(0)
    await put(node, 'changed/later', randomBytes(LARGE_BYTES))
    await put(node, 'newer', randomBytes(LARGE_BYTES))
    for (const key of ['large', 'tiny']) await remove(node, key)
    // A state without them has left, and still nothing of what the backup names has gone.
    const second = await backUp(node)
    await sleep(3000)
    expect(segments(node.store)).toEqual(expect.arrayContaining(backedUp))
    expect(await listed(node)).toEqual([id, second])
    expect(await node.gateway.stop()).toBe(0)
    expect(errorLines(node.log)).toEqual([])

    const found = await runTidegate(['restore', '--list', '--remote', node.remote, '--json'])
    expect([found.code, JSON.parse(found.output)]).toMatchObject([
      0,
      { backups: [{ id, problem: null }, { id: second }] },
    ])
    const data = join(directory.path, 'restored')
    const restored = await runTidegate(['restore', '--data', data, '--remote', node.remote, '--backup', id])
    expect([restored.code, restored.output]).toEqual([0, expect.stringContaining(`backup ${id}`)])
    const successor = await start({ data, store: node.store })
    expect(await bodies(successor, [...Object.keys(before), 'newer'])).toEqual({ ...before, newer: undefined })
    expect((await tidegate(successor, ['backup', 'list'])).output).toContain(`${id} (before the restore)`)

    for (const key of Object.keys(before)) await remove(successor, key)
    await backUp(successor).then(async (own) => {
      for (const dropped of [id, second, own]) {
        expect(await tidegate(successor, ['backup', 'drop', dropped])).toMatchObject({ code: 0, output: '' })
      }
    })
    expect(await listed(successor)).toEqual([])
    // Restoring may have been a mistake: until tomorrow nothing goes that the node before it had.
    await sleep(3000)
    expect(segments(node.store)).toEqual(expect.arrayContaining(backedUp))
    expect(await successor.gateway.stop()).toBe(0)
    expect(errorLines(successor.log)).toEqual([])
  },
)

it('C17: of one life: a kept backup keeps bytes, a dropped one lets them go', { timeout: 180_000 }, async () => {
  const node = await start()
  const untouched = randomBytes(LARGE_BYTES)
  await put(node, 'stays', untouched)
  await backUp(node)
  const few = segments(node.store).length
  await put(node, 'goes', randomBytes(LARGE_BYTES))
  const id = await backUp(node)
  await remove(node, 'goes')
  await sleep(3000)
  expect(segments(node.store).length).toBeGreaterThan(few)
  const dropped = await tidegate(node, ['backup', 'drop', id, '--json'])
  expect([dropped.code, JSON.parse(dropped.output)]).toEqual([0, { id, dropped: true }])
  await segmentsGo(node.store, few)
  expect(await bodies(node, ['stays', 'goes'])).toEqual({ stays: untouched, goes: undefined })
  expect(await node.gateway.stop()).toBe(0)
})

it('--backup-interval makes them, --backup-keep keeps so many, whoever makes them', { timeout: 120_000 }, async () => {
  const node = await start({ flags: ['--backup-interval', '1s', '--backup-keep', '2'] })
  await put(node, 'first', Buffer.from('1'))
  const seen = new Set<string>()
  const deadlineMs = Date.now() + FREED_MS_MAX
  while (seen.size < 4 && Date.now() < deadlineMs) {
    for (const id of await listed(node)) seen.add(id)
  }
  expect(seen.size).toBeGreaterThanOrEqual(4)
  const id = await backUp(node)
  // One more may be there between the moment it is made and the one at which the oldest goes.
  const looking = { timeout: FREED_MS_MAX }
  await expect.poll(async () => (await listed(node)).length, looking).toBe(2)
  await expect.poll(() => readdirSync(join(node.store, 'backups')).length, looking).toBe(2)
  expect(id).toMatch(ID)
  expect(await node.gateway.stop()).toBe(0)
})

it('who may not, and what there is not, is told in words', { timeout: 240_000 }, async () => {
  const config = join(directory.path, 'tidegate.yaml')
  const reader = randomCredentials()
  // JSON is YAML.
  writeFileSync(config, JSON.stringify({ users: [{ name: 'reader', ...reader, policies: ['readwrite'] }] }))
  const node = await start({ flags: [...ONLY_ON_DEMAND, '--config', config] })
  await put(node, 'a', Buffer.from('1'))
  const id = await backUp(node)
  for (const args of [['backup'], ['backup', 'list'], ['backup', 'drop', id]]) {
    const refused = await tidegate(node, args, reader)
    expect([refused.code, refused.output]).toEqual([1, expect.stringMatching(/AccessDenied/)])
  }
  const nobody = await tidegate(node, ['backup', 'list'], randomCredentials())
  expect([nobody.code, nobody.output]).toEqual([1, expect.not.stringContaining('    at ')])
  const cases = [
    [['backup', 'drop', ABSENT], 1, `no backup ${ABSENT}`],
    [['backup', 'drop', 'yesterday'], 1, 'is no id of a backup'],
    [['backup', 'drop'], 2, 'the id of a backup'],
    [['backup', '--wait', 'soon'], 2, '--wait'],
  ] as const
  for (const [args, code, words] of cases) {
    const answer = await tidegate(node, args)
    expect([args, answer.code, answer.output]).toEqual([args, code, expect.stringContaining(words)])
    expect(answer.output).not.toContain('    at ')
  }
  expect(await listed(node)).toEqual([id])
  expect(await node.gateway.stop()).toBe(0)
  const data = join(directory.path, 'never')
  for (const bad of [ABSENT, 'yesterday', '../TIDEGATE']) {
    const { code, output } = await runTidegate(['restore', '--data', data, '--remote', node.remote, '--backup', bad])
    expect([bad, code, output]).toEqual([bad, 2, expect.stringContaining(`no backup ${bad}`)])
    expect(output).not.toContain('    at ')
  }
  expect(existsSync(data)).toBe(false)
})

it('without a remote store there are no backups, and that is said', { timeout: 60_000 }, async () => {
  const logFile = join(directory.path, 'log-alone')
  const gateway = await startGateway({ data: join(directory.path, 'alone'), flags: SMALL_FLAGS, logFile })
  started.push(gateway)
  const node = { gateway, store: '', remote: '', log: '' }
  expect(await tidegate(node, ['backup'])).toMatchObject({ code: 1, output: expect.stringContaining('--remote') })
  expect(await gateway.stop()).toBe(0)
})
