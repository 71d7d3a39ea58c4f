import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand } from '@aws-sdk/client-s3'
import { systemClock } from '../../src/common/clock.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import { DirectoryStore } from '../../src/persist/remote/directory-store.ts'
import { FaultyStore } from '../../src/persist/remote/faulty-store.ts'
import { MemoryStore } from '../../src/persist/remote/memory-store.ts'
import type { RemoteStore } from '../../src/persist/remote/ports.ts'
import { createS3Store } from '../../src/persist/remote/s3-store.ts'
import { createThreadFileSender } from '../../src/persist/remote/thread-file-sender.ts'
import type { ExternalS3Kind } from '../support/external-s3-program.ts'
import { externalS3Lack } from '../support/external-s3-program.ts'
import { startExternalS3, type ExternalS3 } from '../support/external-s3.ts'
import { startGateway, type GatewayProcess } from '../support/gateway-process.ts'
import { sdkClient } from '../support/sdk-client.ts'
import { testRemoteStore, type RemoteStoreHarness } from './remote-store.ts'

/** Stores that need nothing but a directory. */
function local(make: (directory: string) => RemoteStore): RemoteStoreHarness {
  let directory = ''
  return {
    start: async () => {
      directory = await mkdtemp(join(tmpdir(), 'tidegate-remote-'))
    },
    create: async () => make(join(directory, randomBytes(4).toString('hex'))),
    stop: () => rm(directory, { recursive: true, force: true }),
  }
}

const memory = (): MemoryStore => new MemoryStore({ clock: systemClock, fileSystem: nodeFileSystem })
const inDirectory = (directory: string): DirectoryStore => new DirectoryStore({ directory, fileSystem: nodeFileSystem })

testRemoteStore('a directory', local(inDirectory))
testRemoteStore(
  'a directory that nodes share',
  local((directory) => new DirectoryStore({ directory, fileSystem: nodeFileSystem, copies: true })),
)
testRemoteStore('memory', local(memory))
testRemoteStore(
  'a faulty one without faults',
  local(() => new FaultyStore(memory(), { clock: systemClock, random: Math.random })),
)

/** The driver under test at some endpoint, each store below a prefix of its own. */
function s3At(place: { endpoint: string; bucket: string; accessKey: string; secretKey: string }): RemoteStore {
  const { endpoint, bucket, accessKey: accessKeyId, secretKey: secretAccessKey } = place
  return createS3Store(
    { endpoint, bucket, prefix: `tests/${randomBytes(4).toString('hex')}`, region: 'us-east-1', style: 'path' },
    {
      fileSystem: nodeFileSystem,
      sender: createThreadFileSender(),
      credentials: { accessKeyId, secretAccessKey },
    },
  )
}

let gateway: GatewayProcess | undefined
let directory = ''
testRemoteStore('S3, a second Tidegate', {
  start: async () => {
    directory = await mkdtemp(join(tmpdir(), 'tidegate-remote-'))
    gateway = await startGateway({ data: join(directory, 'data'), flags: ['--cache-memory', '128MiB'] })
    const client = sdkClient(gateway)
    await client.send(new CreateBucketCommand({ Bucket: 'remote-store' }))
    client.destroy()
  },
  create: async () => s3At({ endpoint: gateway!.s3, bucket: 'remote-store', ...gateway!.root }),
  stop: async () => {
    await gateway?.stop()
    await rm(directory, { recursive: true, force: true })
  },
})

function external(kind: ExternalS3Kind): RemoteStoreHarness {
  let server: ExternalS3 | undefined
  return {
    start: async () => {
      server = await startExternalS3({ kind })
    },
    create: async () => s3At(server!),
    stop: async () => await server?.stop(),
  }
}

for (const kind of ['versitygw', 'moto'] as const) {
  testRemoteStore(`S3, ${kind}`, external(kind), { lack: await externalS3Lack(kind) })
}
