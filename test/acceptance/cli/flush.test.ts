/** `tidegate flush` and what a writer sees of a backlog that is full (C19), against a real gateway. */
import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { runTidegate } from '../../support/command-line.ts'
import { useGateway } from '../../support/gateway-suite.ts'
import { sendSigned } from '../../support/signed-calls.ts'

const suite = useGateway(() => ({
  flags: ['--buckets=flushed', '--segment-age=1h', '--segment-size=8MiB', '--backlog-max=64MiB', '--admission-wait=2s'],
}))

interface Shown {
  readonly paused: boolean
  readonly items: number
  readonly uploads: unknown[]
  readonly failingItems: number
  readonly pressure: { readonly backlogBytes: number; readonly refused: number }
}

async function flush(
  ...args: readonly string[]
): Promise<{ code: number | null; shown: Shown & { drained?: boolean } }> {
  const { gateway } = suite
  const { code, output } = await runTidegate(['flush', ...args, '--json'], {
    TIDEGATE_GATEWAY: gateway.http,
    TIDEGATE_ROOT_USER: gateway.root.accessKey,
    TIDEGATE_ROOT_PASSWORD: gateway.root.secretKey,
  })
  return { code, shown: JSON.parse(output) as Shown }
}

const put = (key: string, body: Buffer, headers: Record<string, string> = {}): ReturnType<typeof sendSigned> =>
  sendSigned(suite.gateway, { method: 'PUT', target: `/flushed/${key}`, body, headers })

it('shows the backlog, pauses it, says what a drain waits for, and drains it', async () => {
  expect((await put('first', randomBytes(100_000))).status).toBe(200)
  expect((await flush('status')).shown).toMatchObject({ paused: false, items: 0, failingItems: 0 })
  expect((await flush('status')).shown.pressure.backlogBytes).toBeGreaterThan(100_000)
  expect((await flush('pause')).shown.paused).toBe(true)
  const refused = await put('second', randomBytes(100_000), { 'x-tidegate-ack': 'persisted' })
  expect([refused.status, refused.headers['retry-after']]).toEqual([503, '1'])
  const paused = await flush('drain')
  expect([paused.code, paused.shown]).toMatchObject([1, { drained: false, paused: true, leftItems: 1 }])
  expect((await flush('resume')).shown.paused).toBe(false)
  expect(await flush('drain')).toMatchObject({ code: 0, shown: { drained: true } })
  const { shown } = await flush('status')
  expect([shown.items, shown.pressure.backlogBytes]).toEqual([0, 0])
  expect((await put('third', randomBytes(100_000), { 'x-tidegate-ack': 'persisted' })).status).toBe(200)
})

it('C19: a full backlog refuses writes after a bounded wait, with nothing published; deletes work; it recovers', async () => {
  await flush('pause')
  const body = randomBytes(4 * 1024 * 1024)
  let written = 0
  let refused: Awaited<ReturnType<typeof put>> | undefined
  for (; written < 40 && refused === undefined; written++) {
    const answer = await put(`filling-${written}`, body)
    if (answer.status !== 200) refused = answer
  }
  expect(refused?.status).toBe(503)
  expect([refused?.headers['retry-after'], refused?.body.toString()]).toEqual([
    '1',
    expect.stringContaining('SlowDown'),
  ])
  expect(written).toBeGreaterThan(8)
  const absent = await sendSigned(suite.gateway, { method: 'HEAD', target: `/flushed/filling-${written - 1}` })
  expect(absent.status).toBe(404)
  expect((await sendSigned(suite.gateway, { method: 'DELETE', target: '/flushed/filling-0' })).status).toBe(204)
  expect((await flush('status')).shown.pressure.refused).toBeGreaterThan(0)
  await flush('resume')
  expect(await flush('drain')).toMatchObject({ code: 0 })
  expect((await put('after', body)).status).toBe(200)
})
