/** How it ends: what SIGTERM lets finish, what a second one cuts short, and what is there after the next start. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { randomCredentials, startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { errorLines, SMALL_FLAGS, useDirectory } from '../../support/gateway-suite.ts'
import { headBytes, RawConnection } from '../../support/raw-http.ts'
import { sendSigned, signCall } from '../../support/signed-calls.ts'

const directory = useDirectory()
const root = randomCredentials()
const logFile = join(directory.path, 'log')
const BODY = randomBytes(24 * 1024 * 1024)

const start = (name: string): Promise<GatewayProcess> =>
  startGateway({ data: join(directory.path, name), root, logFile, flags: [...SMALL_FLAGS, '--buckets', 'drained'] })

/** A download of which the first bytes are here and the rest is held back by the reader. */
async function slowDownload(gateway: GatewayProcess): Promise<RawConnection> {
  const connection = await RawConnection.open(gateway.s3)
  await connection.send(headBytes(signCall(gateway, { method: 'GET', target: '/drained/large' })))
  await connection.anything(20_000)
  connection.socket.pause()
  return connection
}

async function exitOf(gateway: GatewayProcess): Promise<number | null> {
  if (gateway.child.exitCode === null) await once(gateway.child, 'exit')
  return gateway.child.exitCode
}

it('SIGTERM lets requests finish, takes no new ones, and ends with 0', async () => {
  const gateway = await start('drained')
  try {
    await sendSigned(gateway, { method: 'PUT', target: '/drained/large', body: BODY })
    const download = await slowDownload(gateway)
    const upload = await RawConnection.open(gateway.s3)
    const put = signCall(gateway, { method: 'PUT', target: '/drained/upload', body: BODY })
    await upload.send(headBytes(put), BODY.subarray(0, 1_000_000))
    await sleep(200)
    gateway.child.kill('SIGTERM')
    await sleep(300)
    await expect(RawConnection.open(gateway.s3)).rejects.toThrow('ECONNREFUSED')
    await upload.send(BODY.subarray(1_000_000))
    expect((await upload.response()).status).toBe(200)
    download.socket.resume()
    const answer = await download.response()
    expect(answer.body.equals(BODY)).toBe(true)
    expect(await exitOf(gateway)).toBe(0)
  } finally {
    await gateway.kill()
  }
  const again = await start('drained')
  try {
    for (const key of ['large', 'upload']) {
      const got = await sendSigned(again, { method: 'GET', target: `/drained/${key}` })
      expect(got.body.equals(BODY), key).toBe(true)
    }
    expect(await again.stop()).toBe(0)
  } finally {
    await again.kill()
  }
  expect(errorLines(logFile)).toEqual([])
})

it('a second SIGTERM stops at once and loses nothing acknowledged', async () => {
  const gateway = await start('twice')
  try {
    await sendSigned(gateway, { method: 'PUT', target: '/drained/large', body: BODY })
    await sendSigned(gateway, { method: 'PUT', target: '/drained/small', body: 'small' })
    const download = await slowDownload(gateway)
    gateway.child.kill('SIGTERM')
    await sleep(500)
    expect(gateway.child.exitCode).toBeNull()
    const askedMs = Date.now()
    gateway.child.kill('SIGTERM')
    await exitOf(gateway)
    expect(Date.now() - askedMs).toBeLessThan(5_000)
    download.destroy()
  } finally {
    await gateway.kill()
  }
  const again = await start('twice')
  try {
    expect((await sendSigned(again, { method: 'GET', target: '/drained/large' })).body.equals(BODY)).toBe(true)
    expect((await sendSigned(again, { method: 'GET', target: '/drained/small' })).body.toString()).toBe('small')
    expect(await again.stop()).toBe(0)
  } finally {
    await again.kill()
  }
  expect(readFileSync(logFile, 'utf8')).not.toContain('"level":"fatal"')
})
