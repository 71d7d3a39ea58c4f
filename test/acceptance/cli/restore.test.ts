/** A lost node: the data directory is deleted, and made again from the remote store by `tidegate restore` and `tidegate rebuild`. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { runTidegate } from '../../support/command-line.ts'
import { startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { SMALL_FLAGS, useDirectory } from '../../support/gateway-suite.ts'
import { sendSigned } from '../../support/signed-calls.ts'

const directory = useDirectory()

const OBJECTS: Readonly<Record<string, Buffer>> = {
  '/first/tiny': randomBytes(100),
  '/first/small': randomBytes(20_000),
  '/first/a/b/large': randomBytes(9_000_000),
  '/second/copy': randomBytes(50_000),
}

function remoteUrl(name: string): string {
  const path = join(directory.path, name)
  mkdirSync(path, { recursive: true })
  return `file://${path}`
}

function start(data: string, remote: string): Promise<GatewayProcess> {
  const flags = [...SMALL_FLAGS, '--remote', remote, '--names-interval', '100ms', '--buckets', 'first,second']
  return startGateway({ data, flags, logFile: join(directory.path, 'log') })
}

async function fill(data: string, remote: string): Promise<void> {
  const gateway = await start(data, remote)
  try {
    for (const [target, body] of Object.entries(OBJECTS)) {
      const headers = { 'x-tidegate-ack': 'persisted' }
      expect((await sendSigned(gateway, { method: 'PUT', target, body, headers })).status).toBe(200)
    }
  } finally {
    await gateway.stop()
  }
  rmSync(data, { recursive: true })
}

/** Those that are not there answer 404. */
async function expectAll(data: string, remote: string, absent: readonly string[]): Promise<void> {
  const gateway = await start(data, remote)
  try {
    for (const [target, body] of Object.entries(OBJECTS)) {
      const answer = await sendSigned(gateway, { method: 'GET', target })
      const isThere = !absent.includes(target)
      expect([target, answer.status, answer.body.equals(body)]).toEqual([target, isThere ? 200 : 404, isThere])
    }
  } finally {
    await gateway.stop()
  }
}

it.each(['restore', 'rebuild'])(
  '%s makes a data directory from the remote store alone, byte by byte (C17)',
  { timeout: 180_000 },
  async (command) => {
    const remote = remoteUrl(`store-${command}`)
    const data = join(directory.path, `data-${command}`)
    await fill(data, remote)
    // What a rebuild is for: the names are gone as well.
    if (command === 'rebuild')
      rmSync(join(directory.path, `store-${command}`, 'names'), { recursive: true, force: true })
    const { code, output } = await runTidegate([command, '--data', data, '--remote', remote, '--json'])
    expect([code, output]).toEqual([0, expect.stringContaining('"lost": []')])
    // Its bytes lay in the names, and no segment has them.
    const absent = command === 'rebuild' ? ['/first/tiny'] : []
    expect(output).toContain(`"objects": ${Object.keys(OBJECTS).length - absent.length}`)
    await expectAll(data, remote, absent)
  },
)

it('what cannot be restored is said in words, with code 2, and nothing is made', { timeout: 120_000 }, async () => {
  const data = join(directory.path, 'unused')
  const cases = [
    [['restore', '--remote', remoteUrl('empty'), '--data', data], /no names and no segments under file:/],
    [['rebuild', '--remote', remoteUrl('empty'), '--data', data], /no names and no segments under file:/],
    [['restore', '--data', data], /--remote is missing/],
    [['restore', '--remote', remoteUrl('empty')], /--data is missing/],
    [['restore', '--remote', 'ftp://x', '--data', data], /--remote is not/],
  ] as const
  for (const [args, words] of cases) {
    const { code, output } = await runTidegate(args)
    expect([code, output]).toEqual([2, expect.stringMatching(words)])
    expect(output).not.toContain('    at ')
  }
  expect(existsSync(data)).toBe(false)
  const listed = await runTidegate(['restore', '--list', '--remote', remoteUrl('empty')])
  expect([listed.code, listed.output]).toEqual([0, expect.stringContaining('no backups')])
})

it('a directory that holds something is left as it is', { timeout: 120_000 }, async () => {
  const remote = remoteUrl('store-kept')
  await fill(join(directory.path, 'data-kept'), remote)
  const mine = join(directory.path, 'mine')
  mkdirSync(mine)
  writeFileSync(join(mine, 'notes'), 'kept')
  const { code, output } = await runTidegate(['rebuild', '--remote', remote, '--data', mine])
  expect([code, output]).toEqual([2, expect.stringContaining('is not empty')])
})
