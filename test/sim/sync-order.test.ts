/** A system-call trace of the real process: what was written is synced before the answer goes to the socket (C15). */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startGateway, type GatewayProcess } from '../support/gateway-process.ts'

const TRACED = 'fdatasync,fsync,pwrite64,pwritev,write,writev,sendto,sendmsg'
const O_DSYNC = 0o10000
const ATTACH_MS_MAX = 10_000

const hasStrace = spawnSync('strace', ['-V']).status === 0
let directory: string
let gateway: GatewayProcess | undefined

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidegate-trace-'))
})

afterEach(async () => {
  await gateway?.kill()
  await rm(directory, { recursive: true, force: true })
})

interface Call {
  readonly name: string
  readonly file: string
  readonly descriptor: number
  readonly begins: string
}

/** Calls in order: a write to a socket where it begins, everything else where it has returned. */
function readCalls(trace: string): Call[] {
  const calls: Call[] = []
  const unfinished = new Map<string, string>()
  for (const line of trace.split('\n')) {
    const [, thread = '', rest = ''] = /^(\d+) +(.*)$/.exec(line) ?? []
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest)
    const text = resumed ? (unfinished.get(thread) ?? '') + resumed[1] : rest
    const call = callOf(text)
    if (!call) continue
    const cut = rest.indexOf('<unfinished ...>')
    if (cut >= 0) unfinished.set(thread, rest.slice(0, cut))
    const toSocket = call.file.startsWith('socket:')
    if (toSocket ? resumed === null : cut < 0) calls.push(call)
  }
  return calls
}

function callOf(text: string): Call | undefined {
  const match = /^(?<name>\w+)\((?<descriptor>\d+)<(?<file>[^>]*)>(?<rest>.*)$/.exec(text)
  if (!match?.groups) return undefined
  const { name = '', descriptor, file = '', rest = '' } = match.groups
  return { name, file, descriptor: Number(descriptor), begins: /"(.*)/.exec(rest)?.[1] ?? '' }
}

/** What was written and is not synced when each answer begins; and how many syncs of segments and metadata preceded it. */
async function followAnswers(
  calls: readonly Call[],
  pid: number,
): Promise<{ unsynced: string[]; segmentSyncs: number; metadataSyncs: number }[]> {
  const dirty = new Set<string>()
  const answers = []
  let seen = { segmentSyncs: 0, metadataSyncs: 0 }
  for (const { name, file, descriptor, begins } of calls) {
    if (file.startsWith('socket:')) {
      if (!begins.startsWith('HTTP/1.1 200')) continue
      answers.push({ unsynced: [...dirty], ...seen })
      seen = { segmentSyncs: 0, metadataSyncs: 0 }
    } else if (name.startsWith('f')) {
      dirty.delete(file)
      if (file.endsWith('.seg')) seen.segmentSyncs++
      if (file.endsWith('.mdb')) seen.metadataSyncs++
    } else if (/\.(seg|mdb)$/.test(file) && !(await isSynchronous(pid, descriptor))) {
      dirty.add(file)
    }
  }
  return answers
}

/** LMDB swaps its root through a descriptor whose every write is synced. */
async function isSynchronous(pid: number, descriptor: number): Promise<boolean> {
  const info = await readFile(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8').catch(() => '')
  return (parseInt(/^flags:\s+(\d+)/m.exec(info)?.[1] ?? '0', 8) & O_DSYNC) !== 0
}

async function attach(pid: number, output: string): Promise<ChildProcess> {
  const strace = spawn('strace', ['-f', '-y', '-s', '32', '-o', output, '-p', String(pid), '-e', `trace=${TRACED}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const attached = new Promise<void>((resolve, reject) => {
    let said = ''
    strace.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.includes('attached')) resolve()
    })
    strace.once('exit', () => reject(new Error(`strace ended: ${said}`)))
    setTimeout(() => reject(new Error(`strace did not attach: ${said}`)), ATTACH_MS_MAX).unref()
  })
  await attached
  return strace
}

test('C15: the segment and the metadata are synced before the response is written', async (context) => {
  if (!hasStrace && process.env['CI'] !== 'true') return context.skip('strace is not installed')
  gateway = await startGateway({ data: join(directory, 'data'), logFile: join(directory, 'log') })
  const { s3, root, pid } = gateway
  const client = new S3Client({
    endpoint: s3,
    region: 'us-east-1',
    forcePathStyle: true,
    maxAttempts: 1,
    credentials: { accessKeyId: root.accessKey, secretAccessKey: root.secretKey },
  })
  await client.send(new CreateBucketCommand({ Bucket: 'traced' }))
  const output = join(directory, 'trace')
  const strace = await attach(pid, output)
  await client.send(new PutObjectCommand({ Bucket: 'traced', Key: 'large', Body: Buffer.alloc(100 * 1024, 1) }))
  await client.send(new PutObjectCommand({ Bucket: 'traced', Key: 'small', Body: Buffer.alloc(1024, 1) }))
  strace.kill('SIGINT')
  await once(strace, 'exit')
  client.destroy()
  const [large, small, ...more] = await followAnswers(readCalls(await readFile(output, 'utf8')), pid)
  expect(more).toEqual([])
  expect(large).toMatchObject({ unsynced: [] })
  expect(large?.segmentSyncs).toBeGreaterThan(0)
  expect(large?.metadataSyncs).toBeGreaterThan(0)
  expect(small).toMatchObject({ unsynced: [] })
  expect(small?.metadataSyncs).toBeGreaterThan(0)
})

test('a trace in which the answer comes first is found out', async () => {
  const trace = [
    '1 pwrite64(9999</d/journal/a.seg>, "TGF1"..., 4, 0) = 4',
    '1 write(8<socket:[1]>, "HTTP/1.1 200 OK"..., 300) = 300',
    '1 fdatasync(9999</d/journal/a.seg> <unfinished ...>',
    '2 write(8<socket:[1]>, "HTTP/1.1 200 OK"..., 300) = 300',
    '1 <... fdatasync resumed>) = 0',
    '2 write(8<socket:[1]>, "HTTP/1.1 200 OK"..., 300) = 300',
  ].join('\n')
  const answers = await followAnswers(readCalls(trace), process.pid)
  expect(answers.map(({ unsynced }) => unsynced.length)).toEqual([1, 1, 0])
})
