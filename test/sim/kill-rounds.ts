/**
 * The gateway as a process under load, killed with SIGKILL at a random moment and started again, round after round. Every
 * acknowledged object is then read back and compared. (SIGKILL keeps the kernel's page cache: what a power cut takes is the
 * matter of the simulation.)
 */
import { createHash, randomBytes, randomInt } from 'node:crypto'
import {
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { randomCredentials, startGateway, type GatewayProcess } from '../support/gateway-process.ts'

export interface KillOptions {
  readonly data: string
  readonly rounds: number
  readonly logFile: string
  readonly onRound?: (round: { round: number; writes: number; checked: number }) => void
}

const BUCKET = 'kill'
const CLIENTS = 8
const KEYS_PER_CLIENT = 12
const KIB = 1024
const MIB = 1024 * KIB
const SIZES = [0, 1, 100, 4 * KIB, 4 * KIB + 1, 64 * KIB, 300 * KIB, MIB, MIB + 1, 8 * MIB, 8 * MIB + 1, 20 * MIB]
/** Large ones are rarer, so that many writes fall into a round. */
const SIZE_WEIGHTS = [4, 4, 8, 8, 8, 8, 8, 4, 4, 1, 1, 1]
const LOAD_MS_MIN = 300
const LOAD_MS_MAX = 2500
const PART_BYTES = 5 * MIB

/** Digest of what a key holds; undefined for no object. */
type Content = string | undefined

/** A key has one writer, so what it may hold is what was acknowledged last, or what was under way. */
interface KeyState {
  acknowledged: Content
  underWay: { content: Content } | undefined
}

/** @returns how many writes were acknowledged. @throws Error naming the first object that is not what was acknowledged */
export async function runKillRounds(options: KillOptions): Promise<{ writes: number; checked: number }> {
  const keys = new Map<string, KeyState>()
  const total = { writes: 0, checked: 0 }
  const root = randomCredentials()
  const start = (): Promise<GatewayProcess> =>
    startGateway({
      data: options.data,
      root,
      logFile: options.logFile,
      flags: ['--segment-age', '200ms', '--segment-size', '8MiB', '--cache-memory', '64MiB'],
    })
  for (let round = 1; round <= options.rounds; round++) {
    const gateway = await start()
    try {
      const client = clientOf(gateway)
      if (round === 1) await client.send(new CreateBucketCommand({ Bucket: BUCKET }))
      const checked = await checkAll(client, keys)
      const writes = await loadUntilKilled(gateway, client, keys)
      total.writes += writes
      total.checked += checked
      options.onRound?.({ round, writes, checked })
      client.destroy()
    } finally {
      await gateway.kill()
    }
  }
  const gateway = await start()
  try {
    const client = clientOf(gateway)
    total.checked += await checkAll(client, keys)
    client.destroy()
    const code = await gateway.stop()
    if (code !== 0) throw new Error(`the gateway ended with code ${code} after SIGTERM`)
  } finally {
    await gateway.kill()
  }
  return total
}

function clientOf({ s3, root }: GatewayProcess): S3Client {
  return new S3Client({
    endpoint: s3,
    region: 'us-east-1',
    forcePathStyle: true,
    maxAttempts: 1,
    credentials: { accessKeyId: root.accessKey, secretAccessKey: root.secretKey },
  })
}

async function loadUntilKilled(
  gateway: GatewayProcess,
  client: S3Client,
  keys: Map<string, KeyState>,
): Promise<number> {
  let writes = 0
  const load = { alive: true }
  const writers = Array.from({ length: CLIENTS }, async (_, writer) => {
    while (load.alive) {
      const key = `client-${writer}/key-${randomInt(KEYS_PER_CLIENT)}`
      const state = keys.get(key) ?? { acknowledged: undefined, underWay: undefined }
      keys.set(key, state)
      try {
        await write(client, key, state)
        writes++
      } catch (error) {
        // What the dying process refused or dropped may have happened; before that every write must succeed.
        if (load.alive) throw error
        return
      }
    }
  })
  const working = Promise.all(writers)
  working.catch(() => undefined)
  await Promise.race([new Promise((resolve) => setTimeout(resolve, randomInt(LOAD_MS_MIN, LOAD_MS_MAX))), working])
  load.alive = false
  await gateway.kill()
  await working
  return writes
}

async function write(client: S3Client, key: string, state: KeyState): Promise<void> {
  const roll = Math.random()
  if (roll < 0.15)
    return await follow(state, undefined, () => client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key })))
  const body = randomBytes(roll < 0.2 ? 2 * PART_BYTES + 1000 : pickSize())
  const content = digest(body)
  if (roll < 0.2) return await follow(state, content, () => multipart(client, key, body))
  await follow(state, content, () => client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body })))
}

async function follow(state: KeyState, content: Content, run: () => Promise<unknown>): Promise<void> {
  state.underWay = { content }
  await run()
  state.acknowledged = content
  state.underWay = undefined
}

async function multipart(client: S3Client, key: string, body: Buffer): Promise<void> {
  const address = { Bucket: BUCKET, Key: key }
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(address))
  const parts: { PartNumber: number; ETag: string | undefined }[] = []
  for (let at = 0; at < body.length; at += PART_BYTES) {
    const PartNumber = parts.length + 1
    const part = { ...address, UploadId, PartNumber, Body: body.subarray(at, at + PART_BYTES) }
    parts.push({ PartNumber, ETag: (await client.send(new UploadPartCommand(part))).ETag })
  }
  await client.send(new CompleteMultipartUploadCommand({ ...address, UploadId, MultipartUpload: { Parts: parts } }))
}

async function checkAll(client: S3Client, keys: Map<string, KeyState>): Promise<number> {
  for (const [key, state] of keys) {
    const found = await read(client, key)
    const allowed = [state.acknowledged, ...(state.underWay ? [state.underWay.content] : [])]
    if (!allowed.includes(found)) {
      throw new Error(
        `${key} holds ${found ?? 'nothing'}, acknowledged was ${allowed.map((one) => one ?? 'nothing').join(' or ')}`,
      )
    }
    state.acknowledged = found
    state.underWay = undefined
  }
  return keys.size
}

async function read(client: S3Client, key: string): Promise<Content> {
  try {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }))
    return digest((await Body?.transformToByteArray()) ?? Buffer.alloc(0))
  } catch (error) {
    if ((error as Error).name === 'NoSuchKey') return undefined
    throw error
  }
}

function digest(bytes: Uint8Array): string {
  return `${bytes.length} bytes, SHA-256 ${createHash('sha256').update(bytes).digest('hex')}`
}

function pickSize(): number {
  let roll = randomInt(SIZE_WEIGHTS.reduce((sum, weight) => sum + weight, 0))
  const index = SIZE_WEIGHTS.findIndex((weight) => (roll -= weight) < 0)
  return SIZES[index] ?? 0
}
