/** The remote stores that write-behind is tested over: an S3 server that is not ours, and a second Tidegate. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { S3Client } from '@aws-sdk/client-s3'
import { startExternalS3, type ExternalS3 } from '../../support/external-s3.ts'
import { startGateway, type GatewayCredentials } from '../../support/gateway-process.ts'

export type RemoteKind = 'external' | 'tidegate'

export interface RemoteTarget {
  /** For people: which server it is. */
  readonly name: string
  readonly endpoint: string
  readonly bucket: string
  readonly credentials: GatewayCredentials
  /** What a gateway needs that keeps its segments there; by another address than the server's own if one is given. */
  flags(prefix: string, endpoint?: string): string[]
  readonly environment: Readonly<Record<string, string>>
  /** The caller destroys it. */
  client(): S3Client
  stop(): Promise<void>
}

const REGION = 'us-east-1'
const BUCKET = 'remote-store'

export async function startRemote(kind: RemoteKind): Promise<RemoteTarget> {
  return kind === 'external' ? externalTarget(await startExternalS3({ bucket: BUCKET })) : await secondTidegate()
}

export function externalTarget(server: ExternalS3): RemoteTarget {
  return target({
    name: server.kind,
    endpoint: server.endpoint,
    credentials: { accessKey: server.accessKey, secretKey: server.secretKey },
    stop: () => server.stop(),
  })
}

async function secondTidegate(): Promise<RemoteTarget> {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-remote-'))
  const gateway = await startGateway({
    data: join(directory, 'data'),
    logFile: join(directory, 'log'),
    flags: ['--buckets', BUCKET, '--cache-memory', '64MiB', '--hash-workers', '1'],
  })
  return target({
    name: 'a second Tidegate',
    endpoint: gateway.s3,
    credentials: gateway.root,
    stop: async () => {
      await gateway.kill()
      rmSync(directory, { recursive: true, force: true })
    },
  })
}

function target(
  server: Pick<RemoteTarget, 'name' | 'endpoint' | 'credentials'> & { readonly stop: () => Promise<void> },
): RemoteTarget {
  const { accessKey, secretKey } = server.credentials
  return {
    ...server,
    bucket: BUCKET,
    flags: (prefix, endpoint = server.endpoint) => [
      '--remote',
      `s3://${BUCKET}/${prefix}?endpoint=${encodeURIComponent(endpoint)}&region=${REGION}`,
    ],
    environment: { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey },
    client: () =>
      new S3Client({
        endpoint: server.endpoint,
        region: REGION,
        forcePathStyle: true,
        credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
      }),
  }
}
