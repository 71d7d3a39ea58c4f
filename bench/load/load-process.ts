/**
 * The load generator, a process of its own on raw sockets, so that it costs far less for a request than any server under
 * test. Requests are signed beforehand where there are few of them, and each is sent as it was signed, again and again.
 */
import { connect, type Socket } from 'node:net'
import { dialectOf, type Dialect } from './dialect.ts'
import type { LoadJob, LoadReply, LoadResult } from './job.ts'

const SIGNED_BEFOREHAND_MAX = 100_000
const LATENCIES_MAX = 500_000
const READ_BYTES = 256 * 1024
/** Bodies up to this are copied behind their head, so that a request is one write; two cost the generator twice as much. */
const COPIED_BODY_BYTES_MAX = 64 * 1024
const HEAD_BYTES_MAX = 4096

process.on('message', (job: LoadJob) => {
  run(job).then(
    (result) => reply({ result }),
    (error: unknown) => reply({ failure: error instanceof Error ? error.message : String(error) }),
  )
})

process.on('disconnect', () => process.exit(0))

function reply(message: LoadReply): void {
  process.send?.(message)
}

interface Progress {
  /** Requests sent, answers counted since the measuring began, and whether new requests are sent. */
  sent: number
  answered: number
  bytes: number
  errors: number
  firstError: string | undefined
  stopping: boolean
  readonly latencies: number[]
}

async function run(job: LoadJob): Promise<LoadResult> {
  const dialect = dialectOf(job)
  const signed =
    job.keys <= SIGNED_BEFOREHAND_MAX ? Array.from({ length: job.keys }, (_, index) => dialect.head(index)) : undefined
  const requestsMax = 'requests' in job.end ? job.end.requests : Infinity
  const progress: Progress = {
    sent: 0,
    answered: 0,
    bytes: 0,
    errors: 0,
    firstError: undefined,
    stopping: false,
    latencies: [],
  }
  const nextHead = (): Buffer | undefined => {
    if (progress.stopping || progress.sent >= requestsMax) return undefined
    const index = progress.sent++ % job.keys
    return signed?.[index] ?? dialect.head(index)
  }

  let startMs = performance.now()
  const connections = Array.from({ length: job.connections }, () => driveConnection(job, dialect, progress, nextHead))
  const finished = Promise.all(connections)
  if ('seconds' in job.end) {
    await Promise.race([finished, sleep(job.end.warmupSeconds * 1000)])
    Object.assign(progress, { answered: 0, bytes: 0 })
    progress.latencies.length = 0
    startMs = performance.now()
    await Promise.race([finished, sleep(job.end.seconds * 1000)])
  } else {
    await finished
  }
  const endMs = performance.now()
  const { answered, bytes } = progress
  progress.stopping = true
  await finished
  const sorted = Float64Array.from(progress.latencies).sort()
  const quantile = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0
  return {
    requests: answered,
    seconds: (endMs - startMs) / 1000,
    bytes,
    errors: progress.errors,
    firstError: progress.firstError,
    latencyMs: { median: quantile(0.5), p99: quantile(0.99) },
  }
}

/** Sends requests over one connection, one after another, until `nextHead` has none. */
function driveConnection(
  job: LoadJob,
  dialect: Dialect,
  progress: Progress,
  nextHead: () => Buffer | undefined,
): Promise<void> {
  const { hostname, port } = new URL(job.origin)
  const { body } = dialect
  const reader = dialect.reader()
  return new Promise((resolve, reject) => {
    // Free again when the answer has come, since the server had to read all of it first.
    const joined = body.length <= COPIED_BODY_BYTES_MAX ? Buffer.alloc(HEAD_BYTES_MAX + body.length) : undefined
    let sentMs = 0
    let done = false
    const send = (): void => {
      const head = nextHead()
      if (head === undefined) {
        done = true
        socket.destroy()
        return resolve()
      }
      sentMs = performance.now()
      if (body.length === 0) return void socket.write(head)
      if (joined !== undefined) {
        head.copy(joined)
        body.copy(joined, head.length)
        return void socket.write(joined.subarray(0, head.length + body.length))
      }
      socket.cork()
      socket.write(head)
      socket.write(body)
      socket.uncork()
    }
    const received = (count: number, buffer: Uint8Array): boolean => {
      const answer = reader.push(Buffer.from(buffer.buffer, buffer.byteOffset, count))
      if (answer === undefined) return true
      progress.answered++
      progress.bytes += body.length + answer.bodyBytes
      if (progress.latencies.length < LATENCIES_MAX) progress.latencies.push(performance.now() - sentMs)
      if (!answer.ok) {
        progress.errors++
        progress.firstError ??= answer.summary
      }
      send()
      return true
    }
    const socket: Socket = connect({
      host: hostname,
      port: Number(port),
      noDelay: true,
      onread: { buffer: new Uint8Array(READ_BYTES), callback: received },
    })
    socket.once('connect', send)
    socket.on('error', reject)
    socket.on('close', () => done || reject(new Error('the server closed a connection in the middle')))
  })
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
