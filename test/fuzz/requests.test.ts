/**
 * No request may end the process, and none may leave anything behind. Thousands of broken requests go to the real gateway;
 * after every batch it must be the same process, give a control object back intact, have logged no error, and hold no
 * body, lease or reader.
 *
 * FUZZ_REQUESTS makes the run longer (the default takes seconds), TIDEGATE_TEST_SEED repeats one.
 */
import { createHash, randomBytes } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { beforeAll, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { expectSettled, useGateway } from '../support/gateway-suite.ts'
import { errorCodeOf, RawConnection } from '../support/raw-http.ts'
import { sendSigned } from '../support/signed-calls.ts'
import { FuzzRandom, randomRequest, type FuzzRequest, type FuzzTarget } from './random-requests.ts'

const REQUESTS = Number(process.env['FUZZ_REQUESTS'] ?? 3_000)
const BATCH = 500
const CLIENTS = 16
/** What is not whole need not be answered; it is given this long. */
const PATIENCE_MS = 60
/** Room for a machine that is busy with other things. */
const MS_PER_REQUEST_MAX = 60
/** Server errors that are answers: not built, no room, wait. */
const EXPECTED_SERVER_ERRORS: ReadonlySet<number> = new Set([501, 503, 507])

const BUCKET = 'fuzz'
const CONTROL = randomBytes(300_000)

const suite = useGateway(() => ({
  flags: ['--buckets', `${BUCKET},${BUCKET}-documents,untouched`, '--idle-timeout', '5s'],
}))
let aim: FuzzTarget

beforeAll(async () => {
  const { gateway } = suite
  for (const bucket of [BUCKET, 'untouched'])
    await sendSigned(gateway, { method: 'PUT', target: `/${bucket}/control`, body: CONTROL })
  const begun = await sendSigned(gateway, { method: 'POST', target: `/${BUCKET}/part?uploads`, body: '' })
  aim = {
    gateway,
    bucket: BUCKET,
    uploadId: /<UploadId>(?<id>[^<]+)</.exec(begun.body.toString())?.groups?.['id'] ?? '',
  }
})

/** Why the answer is not acceptable; undefined when it is. */
async function complaintAbout(request: FuzzRequest): Promise<string | undefined> {
  const connection = await RawConnection.open(aim.gateway.s3)
  try {
    for (const piece of request.pieces) {
      await connection.send(piece)
      await turn()
    }
    if (!request.whole) {
      await connection.anything(PATIENCE_MS)
      return undefined
    }
    for (;;) {
      const answer = await connection.response({ bodyless: request.method === 'HEAD' })
      if (answer.status < 200) continue
      if (answer.status < 500 || EXPECTED_SERVER_ERRORS.has(answer.status)) return undefined
      return `${answer.status} ${errorCodeOf(answer)}`
    }
  } catch (error) {
    return (error as Error).message
  } finally {
    connection.destroy()
  }
}

function described(request: FuzzRequest, complaint: string): string {
  const bytes = Buffer.concat(request.pieces)
  return `${request.kind}: ${complaint}\n${JSON.stringify(bytes.subarray(0, 3_000).toString('latin1'))}`
}

/** The same requests for the same seed, though in another order. */
async function throwAll(random: FuzzRandom, count: number): Promise<string[]> {
  const complaints: string[] = []
  let left = count
  const client = async (): Promise<void> => {
    while (left-- > 0) {
      const request = randomRequest(random, aim)
      const complaint = await complaintAbout(request)
      if (complaint !== undefined) complaints.push(described(request, complaint))
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, client))
  return complaints
}

it(
  `survives ${REQUESTS} broken requests (lessons 5.1.16, 5.2.9)`,
  { timeout: 60_000 + REQUESTS * MS_PER_REQUEST_MAX },
  async () => {
    const seed = testSeed()
    console.log(`TIDEGATE_TEST_SEED=${seed}`)
    const random = new FuzzRandom(seed)
    const { gateway } = suite
    for (let thrown = 0; thrown < REQUESTS; thrown += BATCH) {
      const complaints = await throwAll(random, Math.min(BATCH, REQUESTS - thrown))
      const where = `after ${thrown + BATCH} requests, TIDEGATE_TEST_SEED=${seed}`
      expect(gateway.child.exitCode ?? gateway.child.signalCode, where).toBeNull()
      expect(suite.errors(), where).toEqual([])
      expect(complaints, where).toEqual([])
      await expectSettled(gateway)
      const control = await sendSigned(gateway, {
        method: 'GET',
        target: '/untouched/control',
      })
      expect(control.status, where).toBe(200)
      expect(createHash('sha256').update(control.body).digest('hex')).toBe(
        createHash('sha256').update(CONTROL).digest('hex'),
      )
    }
  },
)
