/** The AWS SDK's client, set up for a store that may be anybody's. */
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { createHash } from 'node:crypto'
import { sendFromThread, type SignedRequest } from './thread-file-sender.ts'

export interface S3Place {
  readonly bucket: string
  /** Without slashes at its ends; empty for the whole bucket. */
  readonly prefix: string
  /** Undefined: AWS's own for the region. */
  readonly endpoint?: string | undefined
  readonly region: string
  /** Where the bucket's name stands: in the path, or in the host's name. */
  readonly style: 'path' | 'host'
  /** Of the files that AWS tools use; undefined: what the environment says. */
  readonly profile?: string | undefined
}

const CONNECT_MS_MAX = 10_000

/** The SDK tells the console what it then throws. */
const SILENT = { debug: ignore, info: ignore, warn: ignore, error: ignore }
function ignore(): void {}

/**
 * Attempts are counted by S3Calls, so the SDK makes one. Credentials come by the SDK's chain (environment, shared files, web identity,
 * container, instance) and are renewed by it; nothing of them is seen here.
 */
export function createS3Client(
  place: S3Place,
  options: {
    readonly concurrency: number
    readonly timeoutMs: number
    readonly credentials?: S3ClientConfig['credentials']
  },
): S3Client {
  // One more than there are requests: a connection that is being given up still counts.
  const agent = { keepAlive: true, maxSockets: options.concurrency * 2 }
  const client = new S3Client({
    region: place.region,
    ...(place.endpoint === undefined ? {} : { endpoint: place.endpoint }),
    ...(place.profile === undefined ? {} : { profile: place.profile }),
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
    forcePathStyle: place.style === 'path',
    maxAttempts: 1,
    // Otherwise checksums travel in trailers of a framed body, which many stores do not know. Ours are in headers (s3-upload.ts).
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // A store that does not answer `Expect: 100-continue` costs each upload a second.
    expectContinueHeader: false,
    logger: SILENT,
    requestHandler: {
      logger: SILENT,
      connectionTimeout: Math.min(CONNECT_MS_MAX, options.timeoutMs),
      httpAgent: agent,
      httpsAgent: agent,
    },
  })
  addContentMd5(client)
  addUploadThread(client)
  return client
}

const DIGESTED_COMMANDS: ReadonlySet<string> = new Set(['DeleteObjectsCommand', 'PutObjectTaggingCommand'])

/**
 * DeleteObjects and PutObjectTagging must say how their body is to be checked. The SDK does so with a CRC that only newer stores know;
 * Content-MD5 is what the API asked for from the beginning, and what all of them accept.
 */
function addContentMd5(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const request = args.request as { headers: Record<string, string>; body?: unknown }
      if (DIGESTED_COMMANDS.has(context.commandName ?? '') && isBytes(request.body)) {
        for (const name of Object.keys(request.headers)) {
          if (/^x-amz-(sdk-)?checksum-/i.test(name)) delete request.headers[name]
        }
        request.headers['content-md5'] = createHash('md5').update(request.body).digest('base64')
      }
      return await next(args)
    },
    { step: 'build', priority: 'low', name: 'contentMd5' },
  )
}

/** Innermost: what comes here is signed, and would be sent. */
function addUploadThread(client: S3Client): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const response = await sendFromThread(args.request as SignedRequest)
      return response === undefined ? await next(args) : { response, output: { $metadata: {} } as never }
    },
    { step: 'deserialize', priority: 'low', name: 'sendFromUploadThread' },
  )
}

function isBytes(body: unknown): body is string | Uint8Array {
  return typeof body === 'string' || body instanceof Uint8Array
}
