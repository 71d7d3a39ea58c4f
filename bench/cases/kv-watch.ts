/**
 * 1,000 watchers of one bucket by server-sent events, in a process of their own, against a bare server that writes the same text to
 * as many responses. Two measures:
 *
 *     delay   20 puts a second: from the acknowledgement of a put, as its sender sees it, until a watcher is told, of all
 *             watchers, and until the last one of them is. The sender and the watchers share a clock, not a process.
 *     rate    puts one after another, without a pause: events told a second. The bare server's puts cost nothing, so here its
 *             ceiling holds the cost of the commits too.
 */
import { Agent, request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { compare, takeTurns, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { basicOf, BUCKET_PATH, kvGateway } from '../kv-probe.ts'
import { monotonicMs, type Told } from '../load/watch-job.ts'
import { startWatchers, type Watchers } from '../load/watchers.ts'

const WATCHERS = 1000
const PUTS_PER_SECOND = 20
const STEADY_SECONDS = 5
const WARMUP_PUTS = 10
const VALUE = Buffer.alloc(100, 0x61)
const ANSWER_MS_MAX = 30_000

interface Put {
  readonly revision: number
  /** When its answer came. */
  readonly atMs: number
}

type Sender = (index: number) => Promise<Put>

interface Round {
  readonly medianMs: number
  readonly p99Ms: number
  readonly lastMedianMs: number
  readonly lastP99Ms: number
  readonly eventsPerSecond: number
}

export const kvWatch: Benchmark = {
  name: 'kv-watch',
  rounds: 3,
  async run(context) {
    const gateway = await kvGateway(context)
    const authorization = basicOf(gateway.root)
    const watchers = startWatchers()
    const agent = new Agent({ keepAlive: true })
    try {
      const rounds: Record<'bare' | 'gateway', Round[]> = { bare: [], gateway: [] }
      const measure = (name: 'bare' | 'gateway', origin: string) => async () => {
        const round = await measureRound(context, watchers, { origin, authorization, agent })
        rounds[name].push(round)
        return round.eventsPerSecond
      }
      await takeTurns(context.rounds, {
        bare: measure('bare', context.bare.origin),
        gateway: measure('gateway', gateway.http),
      })
      const row = (name: string, unit: string, field: keyof Round): Measurement => {
        const taken = compare(
          rounds.gateway.map((round) => round[field]),
          rounds.bare.map((round) => round[field]),
        )
        return { name: `kv-watch-1000-${name}`, ...taken, unit, aim: null, durability: 'journal' }
      }
      return [
        row('delay-median', 'ms', 'medianMs'),
        row('delay-p99', 'ms', 'p99Ms'),
        row('delay-last-median', 'ms', 'lastMedianMs'),
        row('delay-last-p99', 'ms', 'lastP99Ms'),
        row('rate', 'events/s', 'eventsPerSecond'),
      ]
    } finally {
      agent.destroy()
      watchers.stop()
    }
  },
}

async function measureRound(
  context: BenchmarkContext,
  watchers: Watchers,
  { origin, authorization, agent }: { origin: string; authorization: string; agent: Agent },
): Promise<Round> {
  const send: Sender = (index) => put(`${origin}${BUCKET_PATH}/watched/${index}`, authorization, agent)
  await watchers.open({ origin, path: `${BUCKET_PATH}?watch=true`, headers: { authorization }, watchers: WATCHERS })
  try {
    let last = 0
    for (let index = 0; index < WARMUP_PUTS; index++) last = (await send(index)).revision
    await watchers.collectTo(last)
    const delays = await steadily(watchers, send)
    return { ...delays, eventsPerSecond: await flatOut(watchers, send, context.seconds) }
  } finally {
    await watchers.close()
  }
}

async function steadily(watchers: Watchers, send: Sender): Promise<Omit<Round, 'eventsPerSecond'>> {
  const startMs = monotonicMs()
  const puts: Promise<Put>[] = []
  for (let index = 0; index < PUTS_PER_SECOND * STEADY_SECONDS; index++) {
    await sleep(Math.max(0, startMs + (index * 1000) / PUTS_PER_SECOND - monotonicMs()))
    puts.push(send(index))
  }
  const acknowledged = await Promise.all(puts)
  const told = new Map((await collect(watchers, acknowledged)).map(({ revision, atMs }) => [revision, atMs]))
  const all: number[] = []
  const last: number[] = []
  for (const { revision, atMs: acknowledgedMs } of acknowledged) {
    const atMs = told.get(revision) ?? []
    if (atMs.length !== WATCHERS) throw new Error(`${atMs.length} of ${WATCHERS} were told of revision ${revision}`)
    for (const toldMs of atMs) all.push(toldMs - acknowledgedMs)
    last.push((atMs.at(-1) ?? Number.NaN) - acknowledgedMs)
  }
  return {
    medianMs: quantile(all, 0.5),
    p99Ms: quantile(all, 0.99),
    lastMedianMs: quantile(last, 0.5),
    lastP99Ms: quantile(last, 0.99),
  }
}

async function flatOut(watchers: Watchers, send: Sender, seconds: number): Promise<number> {
  const startMs = monotonicMs()
  const puts: Put[] = []
  while (monotonicMs() - startMs < seconds * 1000) puts.push(await send(puts.length))
  const told = await collect(watchers, puts)
  const events = told.reduce((sum, { atMs }) => sum + atMs.length, 0)
  const endMs = told.reduce((latest, { atMs }) => Math.max(latest, atMs.at(-1) ?? 0), 0)
  return events / ((endMs - startMs) / 1000)
}

function collect(watchers: Watchers, puts: readonly Put[]): Promise<Told[]> {
  return watchers.collectTo(puts.reduce((latest, { revision }) => Math.max(latest, revision), 0))
}

function put(url: string, authorization: string, agent: Agent): Promise<Put> {
  return new Promise((resolve, reject) => {
    const headers = { authorization, 'content-length': VALUE.length }
    const request = httpRequest(url, { method: 'PUT', headers, agent, timeout: ANSWER_MS_MAX }, (answer) => {
      const atMs = monotonicMs()
      const revision = Number(answer.headers['x-tidegate-revision'])
      answer.on('error', reject)
      answer.resume().on('end', () => {
        if (answer.statusCode === 200) resolve({ revision, atMs })
        else reject(new Error(`a put was answered with ${answer.statusCode}`))
      })
    })
    request.on('timeout', () => request.destroy(new Error('a put was not answered')))
    request.on('error', reject)
    request.end(VALUE)
  })
}

function quantile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
