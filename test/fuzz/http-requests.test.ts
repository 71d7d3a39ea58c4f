/**
 * As requests.test.ts, for the HTTP port: no request may end the process, be answered by an error of the server's, or leave
 * anything behind. Broken escapes and parameters, headers without measure, JSON cut anywhere, wrong content types, binary
 * batches with spoiled bytes: most of them with good credentials, so that they reach what lies behind authentication.
 *
 * FUZZ_REQUESTS makes the run longer, TIDEGATE_TEST_SEED repeats one.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { beforeAll, expect, it } from 'vitest'
import { createKvClient, type KvClient } from '../../src/client/kv-client.ts'
import { testSeed } from '../model/random.ts'
import { expectSettled, useGateway } from '../support/gateway-suite.ts'
import { RawConnection } from '../support/raw-http.ts'
import { randomHttpRequest, type HttpFuzzRequest } from './random-http-requests.ts'
import { FuzzRandom } from './random-requests.ts'

const REQUESTS = Number(process.env['FUZZ_REQUESTS'] ?? 2_000)
const BATCH = 500
const CLIENTS = 16
/** What is not whole need not be answered; it is given this long. */
const PATIENCE_MS = 60
/** Room for a machine that is busy with other things. */
const MS_PER_REQUEST_MAX = 60
/** Server errors that are answers: not built, no room, wait. */
const EXPECTED_SERVER_ERRORS: ReadonlySet<number> = new Set([501, 503, 507])

const suite = useGateway(() => ({ flags: ['--buckets', 'fuzz,untouched', '--idle-timeout', '5s'] }))
let kv: KvClient
let authorization = ''

beforeAll(async () => {
  const { http, root } = suite.gateway
  kv = createKvClient({ url: http, bucket: 'untouched', ...root })
  await kv.put('control', 'control')
  authorization = `Basic ${Buffer.from(`${root.accessKey}:${root.secretKey}`).toString('base64')}`
})

/** Why the answer is not acceptable; undefined when it is. */
async function complaintAbout(request: HttpFuzzRequest): Promise<string | undefined> {
  const connection = await RawConnection.open(suite.gateway.http)
  try {
    for (const piece of request.pieces) {
      await connection.send(piece)
      await turn()
    }
    if (!request.whole) {
      await connection.anything(PATIENCE_MS)
      return undefined
    }
    const answer = await connection.response({ bodyless: request.method === 'HEAD' })
    if (answer.status < 500 || EXPECTED_SERVER_ERRORS.has(answer.status)) return undefined
    return `${answer.status} ${answer.body.toString().slice(0, 500)}`
  } catch (error) {
    return (error as Error).message
  } finally {
    connection.destroy()
  }
}

async function throwAll(random: FuzzRandom, count: number): Promise<string[]> {
  const complaints: string[] = []
  let left = count
  const client = async (): Promise<void> => {
    while (left-- > 0) {
      const request = randomHttpRequest(random, { authorization, bucket: 'fuzz' })
      const complaint = await complaintAbout(request)
      if (complaint === undefined) continue
      const sent = Buffer.concat(request.pieces).subarray(0, 2_000).toString('latin1')
      complaints.push(`${request.kind}: ${complaint}\n${JSON.stringify(sent.replace(authorization, '...'))}`)
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, client))
  return complaints
}

it(
  `survives ${REQUESTS} broken requests on the HTTP port (lessons 5.1.16, 5.2.9)`,
  { timeout: 60_000 + REQUESTS * MS_PER_REQUEST_MAX },
  async () => {
    const seed = testSeed()
    console.log(`TIDEGATE_TEST_SEED=${seed}`)
    const random = new FuzzRandom(seed)
    const { gateway } = suite
    try {
      for (let thrown = 0; thrown < REQUESTS; thrown += BATCH) {
        const complaints = await throwAll(random, Math.min(BATCH, REQUESTS - thrown))
        const where = `after ${thrown + BATCH} requests, TIDEGATE_TEST_SEED=${seed}`
        expect(gateway.child.exitCode ?? gateway.child.signalCode, where).toBeNull()
        expect(suite.errors(), where).toEqual([])
        expect(complaints, where).toEqual([])
        await expectSettled(gateway)
        expect((await kv.get('control'))?.text(), where).toBe('control')
      }
    } finally {
      kv.close()
    }
  },
)
