/** Many clients on few keys: what is read is always one whole object that somebody wrote, and races have one winner. */
import { createHash } from 'node:crypto'
import { expect, it } from 'vitest'
import { Random, testSeed } from '../../model/random.ts'
import { expectSettled, useGateway } from '../../support/gateway-suite.ts'
import { outcomeOf, type RawResponse } from '../../support/raw-http.ts'
import { sendSigned, type HandMadeCall } from '../../support/signed-calls.ts'

const suite = useGateway(() => ({ flags: ['--buckets', 'races', '--segment-age', '200ms', '--segment-size', '8MiB'] }))
const send = (call: HandMadeCall): Promise<RawResponse> => sendSigned(suite.gateway, call)

const CLIENTS = 12
const CALLS = 60
/** Inline, shared segment, hashed on workers, of several blocks. */
const SIZES = [40, 5_000, 300_000, 2_500_000]
const KEYS = ['one', 'two', 'three/deep', 'three']

/** A text that says of each of its lines who wrote it, so that a mixture shows. */
function bodyOf(writer: string, size: number): Buffer {
  return Buffer.alloc(size, `${writer}\n`)
}

function isWhole(body: Buffer): boolean {
  const writer = body.subarray(0, body.indexOf('\n')).toString()
  return body.equals(bodyOf(writer, body.length))
}

it('readers see whole objects under writers, copiers and deleters', async () => {
  const seed = testSeed()
  const wrong: string[] = []
  const client = async (name: number): Promise<void> => {
    const random = new Random(seed + name)
    for (let call = 0; call < CALLS; call++) {
      const target = `/races/${random.pick(KEYS)}`
      const choice = random.next()
      if (choice < 0.3) {
        const body = bodyOf(`${name}-${call}`, random.pick(SIZES))
        const put = await send({ method: 'PUT', target, body })
        if (put.status !== 200) wrong.push(`PUT ${outcomeOf(put)}`)
      } else if (choice < 0.4) {
        const copied = await send({
          method: 'PUT',
          target,
          headers: { 'x-amz-copy-source': `/races/${random.pick(KEYS)}` },
          body: '',
        })
        // Absent just now, or a copy onto itself.
        if (!['200', '404 NoSuchKey', '400 InvalidRequest'].includes(outcomeOf(copied)))
          wrong.push(`copy ${outcomeOf(copied)}`)
      } else if (choice < 0.5) {
        const removed = await send({ method: 'DELETE', target })
        if (removed.status !== 204) wrong.push(`DELETE ${outcomeOf(removed)}`)
      } else {
        const got = await send({ method: 'GET', target })
        if (got.status === 404) continue
        const etag = `"${createHash('md5').update(got.body).digest('hex')}"`
        if (got.status !== 200 || !isWhole(got.body) || got.headers['etag'] !== etag)
          wrong.push(`GET ${outcomeOf(got)} ${target}`)
      }
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, (_, name) => client(name)))
  expect(wrong, `TIDEGATE_TEST_SEED=${seed}`).toEqual([])
  await expectSettled(suite.gateway)
})

it('an upload that is completed and aborted at once is one or the other', async () => {
  for (let round = 0; round < 10; round++) {
    const key = `/races/upload-${round}`
    const begun = await send({ method: 'POST', target: `${key}?uploads`, body: '' })
    const id = /<UploadId>(?<id>[^<]+)</.exec(begun.body.toString())?.groups?.['id'] ?? ''
    const part = await send({
      method: 'PUT',
      target: `${key}?uploadId=${id}&partNumber=1`,
      body: bodyOf('part', 100_000),
    })
    const document = `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${part.headers['etag']}</ETag></Part></CompleteMultipartUpload>`
    const complete = (): Promise<RawResponse> =>
      send({ method: 'POST', target: `${key}?uploadId=${id}`, body: document })
    const [first, abort, second, late] = await Promise.all([
      complete(),
      send({ method: 'DELETE', target: `${key}?uploadId=${id}` }),
      complete(),
      send({ method: 'PUT', target: `${key}?uploadId=${id}&partNumber=2`, body: bodyOf('late', 400_000) }),
    ])
    const got = await send({ method: 'GET', target: key })
    const completed = [first, second].filter((answer) => answer.status === 200 && answer.body.includes('ETag'))
    if (completed.length === 0) expect([outcomeOf(got), abort.status]).toEqual(['404 NoSuchKey', 204])
    else expect(got.body.equals(bodyOf('part', 100_000))).toBe(true)
    expect(outcomeOf(late)).toMatch(/^(?:200|404 NoSuchUpload)$/)
    expect(outcomeOf(await send({ method: 'GET', target: `${key}?uploadId=${id}` }))).toBe('404 NoSuchUpload')
  }
  await expectSettled(suite.gateway)
})
