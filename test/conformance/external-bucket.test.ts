import { CreateBucketCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExternalBucket, ExternalCapabilities } from '../../src/attach/ports.ts'
import { S3ExternalBucket } from '../../src/persist/external/external-bucket.ts'
import { externalS3Lack, type ExternalS3Kind } from '../support/external-s3-program.ts'
import { startExternalS3, type ExternalS3 } from '../support/external-s3.ts'
import { startGateway, type GatewayProcess } from '../support/gateway-process.ts'
import { MemoryBucket } from '../support/memory-bucket.ts'
import { sdkClient } from '../support/sdk-client.ts'
import type { ExternalBucketHarness } from './external-bucket-lists.ts'
import { testExternalBucket } from './external-bucket.ts'

const ALL: ExternalCapabilities = {
  conditionalPut: true,
  conditionalDelete: true,
  conditionalComplete: true,
  conditionalCopy: true,
}
const NONE: ExternalCapabilities = {
  conditionalPut: false,
  conditionalDelete: false,
  conditionalComplete: false,
  conditionalCopy: false,
}

function memory(capabilities: ExternalCapabilities): ExternalBucketHarness {
  return {
    start: () => Promise.resolve(),
    create: () => {
      const bucket = new MemoryBucket()
      Object.assign(bucket.capabilities, capabilities)
      return Promise.resolve(bucket)
    },
    stop: () => Promise.resolve(),
  }
}

testExternalBucket('memory', memory(ALL), { capabilities: ALL, copies: true })
testExternalBucket('memory without conditions', memory(NONE), { capabilities: NONE, copies: true })

interface Place {
  readonly endpoint: string
  readonly bucket: string
  readonly accessKey: string
  readonly secretKey: string
}

const randomName = (): string => randomBytes(4).toString('hex')

/** The driver under test at some endpoint, each bucket below a prefix of its own. */
function externalAt({ endpoint, bucket, accessKey, secretKey }: Place, prefix: string): ExternalBucket {
  return new S3ExternalBucket(
    { endpoint, bucket, prefix, region: 'us-east-1', style: 'path' },
    { credentials: { accessKeyId: accessKey, secretAccessKey: secretKey } },
  )
}

let gateway: GatewayProcess | undefined
let directory = ''
let lastPrefix = ''
const gatewayPlace = (): Place => ({ endpoint: gateway!.s3, bucket: 'attached', ...gateway!.root })

testExternalBucket(
  'S3, a second Tidegate',
  {
    start: async () => {
      directory = await mkdtemp(join(tmpdir(), 'tidegate-external-'))
      gateway = await startGateway({ data: join(directory, 'data'), flags: ['--cache-memory', '128MiB'] })
      const client = sdkClient(gateway)
      await client.send(new CreateBucketCommand({ Bucket: 'attached' }))
      client.destroy()
    },
    create: () => Promise.resolve(externalAt(gatewayPlace(), (lastPrefix = `tests/${randomName()}`))),
    putBeside: async (name, text) => {
      const client = sdkClient(gateway!)
      await client.send(new PutObjectCommand({ Bucket: 'attached', Key: `${lastPrefix}-${name}`, Body: text }))
      client.destroy()
    },
    stop: async () => {
      await gateway?.stop()
      await rm(directory, { recursive: true, force: true })
    },
  },
  { capabilities: ALL, copies: true },
)

function external(kind: ExternalS3Kind): ExternalBucketHarness {
  let server: ExternalS3 | undefined
  let prefix = ''
  return {
    start: async () => {
      server = await startExternalS3({ kind })
    },
    create: () => Promise.resolve(externalAt(server!, (prefix = `tests/${randomName()}`))),
    putBeside: async (name, text) => {
      const client = server!.client()
      await client.send(new PutObjectCommand({ Bucket: server!.bucket, Key: `${prefix}-${name}`, Body: text }))
      client.destroy()
    },
    stop: async () => await server?.stop(),
  }
}

/** It keeps objects in files, so its keys are paths; and it writes control characters into its listings as others. */
const isNoPath = (key: string): boolean => key.startsWith('/') || key.includes('//') || key.includes('\u0007')

testExternalBucket('S3, versitygw', external('versitygw'), {
  lack: await externalS3Lack('versitygw'),
  capabilities: ALL,
  copies: true,
  refusesKey: isNoPath,
  keepsHeaders: true,
})

/** Several puts at once may all be told that nothing is there; sometimes that shows while it is tried. */
testExternalBucket('S3, moto', external('moto'), {
  lack: await externalS3Lack('moto'),
  capabilities: { conditionalDelete: true, conditionalComplete: false, conditionalCopy: false },
  copies: false,
  refusesKey: (key) => key.includes('\n'),
  isRacy: true,
})
