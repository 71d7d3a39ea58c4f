/**
 * A full disk (C19): writes are refused in words that a client understands, reads and deletes work, and when there is
 * room again writes do, without a restart. On a small file system of its own, which only root can mount; the forgetful
 * file system of test/sim fills up for everybody.
 */
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, expect, it } from 'vitest'
import { randomCredentials, startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { errorLines, expectSettled } from '../../support/gateway-suite.ts'
import { outcomeOf } from '../../support/raw-http.ts'
import { sendSigned, type HandMadeCall } from '../../support/signed-calls.ts'

const MIB = 1024 * 1024
const DISK = 'size=96m'
const FLAGS = [
  '--disk-reserve',
  '24MiB',
  '--cache-memory',
  '32MiB',
  '--hash-workers',
  '1',
  '--buckets',
  'full',
] as const
/** Sealed soon, so that what is deleted is reclaimed soon. */
const SEGMENTS = ['--segment-size', '8MiB', '--segment-age', '300ms', '--admission-wait', '3s'] as const
const OBJECT_BYTES = 3 * MIB
const OBJECTS_MAX = 100
const ROOM_MS_MAX = 45_000

const root = randomCredentials()
const directory = mkdtempSync(join(tmpdir(), 'tidegate-full-disk-'))
const data = join(directory, 'data')
mkdirSync(data)
const mounted = mountDisk()
afterAll(() => {
  if (mounted) execFileSync('umount', [data])
  rmSync(directory, { recursive: true })
})

function mountDisk(): boolean {
  if (process.getuid?.() !== 0) return false
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', DISK, 'tmpfs', data], { stdio: 'pipe' })
    return true
  } catch {
    // A container without the right to mount.
    return false
  }
}

it.skipIf(!mounted)('is refused, survived and left behind', async () => {
  const logFile = join(directory, 'log')
  const gateway = await startGateway({ data: join(data, 'own'), root, logFile, flags: [...FLAGS, ...SEGMENTS] })
  try {
    const send = async (call: HandMadeCall): Promise<string> => outcomeOf(await sendSigned(gateway, call))
    const digests: string[] = []
    let refusal = ''
    while (refusal === '' && digests.length < OBJECTS_MAX) {
      const body = randomBytes(OBJECT_BYTES)
      const outcome = await send({ method: 'PUT', target: `/full/${digests.length}`, body })
      if (outcome === '200') digests.push(createHash('sha256').update(body).digest('hex'))
      else refusal = outcome
    }
    expect(refusal).toMatch(/^(?:507 StorageFull|503 SlowDown)$/)
    expect(digests.length).toBeGreaterThan(5)
    const large = { method: 'PUT', target: '/full/large', body: randomBytes(12 * MIB) }
    expect(await send(large)).toMatch(/^(?:507 StorageFull|503 SlowDown)$/)
    expect(await send({ method: 'GET', target: '/full/large' })).toBe('404 NoSuchKey')
    await expectSettled(gateway)

    for (const [key, digest] of digests.entries()) {
      const got = await sendSigned(gateway, { method: 'GET', target: `/full/${key}` })
      expect(createHash('sha256').update(got.body).digest('hex'), `object ${key}`).toBe(digest)
    }
    for (const key of digests.keys()) expect(await send({ method: 'DELETE', target: `/full/${key}` })).toBe('204')

    const deadlineMs = Date.now() + ROOM_MS_MAX
    let outcome = await send(large)
    while (outcome !== '200' && Date.now() < deadlineMs) {
      await sleep(500)
      outcome = await send(large)
    }
    expect(outcome).toBe('200')
    const got = await sendSigned(gateway, { method: 'GET', target: '/full/large' })
    expect(got.body.equals(large.body)).toBe(true)
    await expectSettled(gateway)
    expect(await gateway.stop()).toBe(0)
    expect(errorLines(logFile)).toEqual([])
  } finally {
    await gateway.kill()
    rmSync(join(data, 'own'), { recursive: true })
  }
})

/** Takes what is left, reserve or not, as another program would. */
function fillUp(path: string): void {
  const file = openSync(path, 'w')
  const block = Buffer.alloc(64 * 1024)
  try {
    for (;;) writeSync(file, block)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  } finally {
    closeSync(file)
  }
}

it.skipIf(!mounted)('is survived when another program fills it to the last byte', async () => {
  const logFile = join(directory, 'log-filled')
  const start = (): Promise<GatewayProcess> =>
    startGateway({ data: join(data, 'filled'), root, logFile, flags: [...FLAGS, ...SEGMENTS] })
  const gateway = await start()
  const bodies = [100, 70_000, 3 * MIB].map((bytes) => randomBytes(bytes))
  const send = async (call: HandMadeCall): Promise<string> => outcomeOf(await sendSigned(gateway, call))
  try {
    for (const [key, body] of bodies.entries())
      expect(await send({ method: 'PUT', target: `/full/${key}`, body })).toBe('200')
    fillUp(join(data, 'foreign'))
    // A few bytes may still find room in pages that the metadata store has to spare.
    const few = await send({ method: 'PUT', target: '/full/few', body: 'few' })
    expect(few).toMatch(/^(?:200|507 StorageFull)$/)
    for (const body of [randomBytes(70_000), randomBytes(12 * MIB)])
      expect(await send({ method: 'PUT', target: '/full/more', body })).toBe('507 StorageFull')
    expect(await send({ method: 'GET', target: '/full/few' })).toBe(few === '200' ? '200' : '404 NoSuchKey')
    for (const [key, body] of bodies.entries()) {
      const got = await sendSigned(gateway, { method: 'GET', target: `/full/${key}` })
      expect(got.body.equals(body), `object ${key}`).toBe(true)
    }
    expect(await send({ method: 'DELETE', target: '/full/absent' })).toMatch(/^(?:204|507 StorageFull)$/)
    rmSync(join(data, 'foreign'))
    await sleep(1_000)
    expect(await send({ method: 'PUT', target: '/full/more', body: bodies[2] ?? '' })).toBe('200')
    expect(await send({ method: 'DELETE', target: '/full/0' })).toBe('204')
    await expectSettled(gateway)
    expect(await gateway.stop()).toBe(0)
    // The journal and LMDB say that the disk is full; nothing worse may have happened.
    expect(readFileSync(logFile, 'utf8')).not.toMatch(/"level":"fatal"|AssertionFailed|a request handler failed/)
  } finally {
    await gateway.kill()
  }
  const again = await start()
  try {
    for (const [key, body] of [
      [1, bodies[1]],
      [2, bodies[2]],
      ['more', bodies[2]],
    ] as const) {
      const got = await sendSigned(again, { method: 'GET', target: `/full/${key}` })
      expect(got.body.equals(body ?? Buffer.alloc(0)), `object ${key}`).toBe(true)
    }
    expect(await again.stop()).toBe(0)
  } finally {
    await again.kill()
  }
})
