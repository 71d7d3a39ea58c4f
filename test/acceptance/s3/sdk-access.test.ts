/** Users and policies from the configuration file, TLS with a certificate of our own, and virtual-host addressing. */
// needs: openssl
import { readFileSync, writeFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { Agent as TlsAgent, get } from 'node:https'
import type { LookupFunction } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import {
  CopyObjectCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListObjectsV2Command,
  PutBucketVersioningCommand,
  PutObjectCommand,
  UploadPartCopyCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeCertificate } from '../../support/certificate.ts'
import { useGateway } from '../../support/gateway-suite.ts'
import { refusalOf, sdkClient } from '../../support/sdk-client.ts'

const ANNA = { accessKey: 'AKANNA0000001', secretKey: 'the secret of anna, long enough' }
const BERT = { accessKey: 'AKBERT0000001', secretKey: 'the secret of bert, long enough' }

/** Anna writes what is hers and reads the shared part; of bert nothing but the shared part is readable. */
const USERS = [
  {
    name: 'anna',
    ...ANNA,
    policies: [
      {
        Version: '2012-10-17',
        Statement: [
          { Effect: 'Allow', Action: 's3:ListAllMyBuckets', Resource: '*' },
          {
            Effect: 'Allow',
            Action: 's3:ListBucket',
            Resource: 'arn:aws:s3:::shared',
            Condition: { StringLike: { 's3:prefix': ['anna/*'] } },
          },
          {
            Effect: 'Allow',
            Action: ['s3:GetObject', 's3:PutObject', 's3:DeleteObject'],
            Resource: 'arn:aws:s3:::shared/anna/*',
          },
          { Effect: 'Allow', Action: 's3:GetObject', Resource: 'arn:aws:s3:::shared/public/*' },
          { Effect: 'Deny', Action: '*', Resource: 'arn:aws:s3:::shared/anna/locked/*' },
        ],
      },
    ],
  },
  { name: 'bert', ...BERT, policies: ['readonly'] },
]

const suite = useGateway((directory) => {
  const { certificate, key } = makeCertificate(directory)
  const config = join(directory, 'tidegate.yaml')
  // JSON is YAML.
  writeFileSync(config, JSON.stringify({ users: USERS, buckets: ['shared', 'private'], domain: ['s3.test'] }))
  return { flags: ['--config', config, '--tls-cert', certificate, '--tls-key', key] }
})

const clients: S3Client[] = []
let root: S3Client
let anna: S3Client
let bert: S3Client

/** Every name is this machine, as a wildcard record in a DNS would say. */
const lookup: LookupFunction = (_name, options, callback) => {
  if (options.all === true) callback(null, [{ address: '127.0.0.1', family: 4 }])
  else callback(null, '127.0.0.1', 4)
}

function clientOf(options: Parameters<typeof sdkClient>[1] = {}): S3Client {
  const ca = readFileSync(join(suite.directory, 'certificate.pem'))
  const httpsAgent = new TlsAgent({ ca, lookup, checkServerIdentity: () => undefined })
  const client = sdkClient(suite.gateway, {
    requestHandler: { httpsAgent, httpAgent: new Agent({ lookup }) },
    ...options,
  })
  clients.push(client)
  return client
}

beforeAll(async () => {
  root = clientOf()
  anna = clientOf({ as: ANNA })
  bert = clientOf({ as: BERT })
  for (const Key of ['anna/mine', 'anna/locked/mine', 'public/read', 'bert/his', 'top'])
    await root.send(new PutObjectCommand({ Bucket: 'shared', Key, Body: Key }))
  await root.send(new PutObjectCommand({ Bucket: 'private', Key: 'secret', Body: 'secret' }))
})
afterAll(() => clients.forEach((client) => client.destroy()))

const DENIED = '403 AccessDenied'
const at = (Key: string, Bucket = 'shared'): { Bucket: string; Key: string } => ({ Bucket, Key })

describe('over TLS', () => {
  it('speaks https on both ports', async () => {
    expect(suite.gateway.s3).toMatch(/^https:/)
    expect(suite.gateway.http).toMatch(/^https:/)
    const { Body } = await root.send(new GetObjectCommand(at('top')))
    expect(await Body?.transformToString()).toBe('top')
  })

  it('takes a stream with an unsigned trailer, as the SDK sends it over TLS', async () => {
    const body = Buffer.alloc(1_500_000, 'stream')
    async function* pieces(): AsyncGenerator<Buffer> {
      for (let at = 0; at < body.length; at += 70_000) yield await Promise.resolve(body.subarray(at, at + 70_000))
    }
    await root.send(
      new PutObjectCommand({ ...at('tls-stream'), Body: Readable.from(pieces()), ContentLength: body.length }),
    )
    const { Body } = await root.send(new GetObjectCommand(at('tls-stream')))
    expect(Buffer.from((await Body?.transformToByteArray()) ?? []).equals(body)).toBe(true)
  })
})

describe('virtual-host style (--domain)', () => {
  it('finds the bucket in the host name', async () => {
    const { port } = new URL(suite.gateway.s3)
    const client = clientOf({ endpoint: `https://s3.test:${port}`, forcePathStyle: false })
    await client.send(new CreateBucketCommand({ Bucket: 'by-host' }))
    await client.send(new PutObjectCommand({ ...at('a//b ü', 'by-host'), Body: 'by host' }))
    const { Body } = await client.send(new GetObjectCommand(at('a//b ü', 'by-host')))
    expect(await Body?.transformToString()).toBe('by host')
    const { Contents } = await client.send(new ListObjectsV2Command({ Bucket: 'by-host' }))
    expect(Contents?.map(({ Key }) => Key)).toEqual(['a//b ü'])
    // The same bucket by path, where the host is the domain itself.
    expect(await refusalOf(root.send(new HeadObjectCommand(at('a//b ü', 'by-host'))))).toBe('200')
  })
})

describe('policies (C35)', () => {
  it('allow what they name, and nothing else', async () => {
    const get = (Key: string, Bucket?: string): Promise<string> =>
      refusalOf(anna.send(new GetObjectCommand(at(Key, Bucket))).then(({ Body }) => Body?.transformToString()))
    expect(await get('anna/mine')).toBe('200')
    expect(await get('public/read')).toBe('200')
    expect(await get('anna/locked/mine')).toBe(DENIED)
    expect(await get('bert/his')).toBe(DENIED)
    expect(await get('secret', 'private')).toBe(DENIED)
    // A key of that very name, which is not there: what is authorised is the string that is looked up (lesson 5.2.11).
    expect(await get('anna/../bert/his')).toBe('404 NoSuchKey')
    const put = (Key: string): Promise<string> => refusalOf(anna.send(new PutObjectCommand({ ...at(Key), Body: 'x' })))
    expect(await put('anna/new')).toBe('200')
    expect(await put('anna/locked/new')).toBe(DENIED)
    expect(await put('public/new')).toBe(DENIED)
    expect(await refusalOf(anna.send(new CreateBucketCommand({ Bucket: 'of-anna' })))).toBe(DENIED)
    expect(await refusalOf(anna.send(new ListBucketsCommand({})))).toBe('200')
  })

  it('do not say whether a key exists that may not be listed', async () => {
    expect(await refusalOf(anna.send(new GetObjectCommand(at('bert/absent'))))).toBe(DENIED)
    expect(await refusalOf(anna.send(new HeadObjectCommand(at('public/absent'))))).toMatch(/^403/)
  })

  it('apply their conditions to listings', async () => {
    const list = (Prefix?: string): Promise<string> =>
      refusalOf(anna.send(new ListObjectsV2Command({ Bucket: 'shared', ...(Prefix === undefined ? {} : { Prefix }) })))
    expect(await list('anna/')).toBe('200')
    expect(await list('bert/')).toBe(DENIED)
    expect(await list()).toBe(DENIED)
  })

  it('are asked for each key of DeleteObjects (lesson 5.1.18)', async () => {
    await anna.send(new PutObjectCommand({ ...at('anna/to-delete'), Body: 'x' }))
    const Objects = ['anna/to-delete', 'bert/his', 'anna/locked/mine', 'top'].map((Key) => ({ Key }))
    const { Deleted, Errors } = await anna.send(new DeleteObjectsCommand({ Bucket: 'shared', Delete: { Objects } }))
    expect(Deleted?.map(({ Key }) => Key)).toEqual(['anna/to-delete'])
    expect(Errors?.map(({ Key, Code }) => [Key, Code])).toEqual([
      ['bert/his', 'AccessDenied'],
      ['anna/locked/mine', 'AccessDenied'],
      ['top', 'AccessDenied'],
    ])
    for (const Key of ['bert/his', 'anna/locked/mine', 'top'])
      expect(await refusalOf(root.send(new HeadObjectCommand(at(Key)))), Key).toBe('200')
  })

  it('want read on the source of a copy and write on its target (lessons 5.1.18, 5.2.16)', async () => {
    const copy = (Key: string, CopySource: string): Promise<string> =>
      refusalOf(anna.send(new CopyObjectCommand({ ...at(Key), CopySource })))
    expect(await copy('anna/copy', 'shared/public/read')).toBe('200')
    expect(await copy('anna/copy', 'shared/bert/his')).toBe(DENIED)
    expect(await copy('anna/copy', 'private/secret')).toBe(DENIED)
    expect(await copy('anna/copy', 'shared/public/../bert/his')).toMatch(/^(?:403 AccessDenied|404)/)
    expect(await copy('public/copy', 'shared/anna/mine')).toBe(DENIED)
    const { UploadId } = await anna.send(new CreateMultipartUploadCommand(at('anna/parts')))
    const part = (CopySource: string): Promise<string> =>
      refusalOf(anna.send(new UploadPartCopyCommand({ ...at('anna/parts'), UploadId, PartNumber: 1, CopySource })))
    expect(await part('shared/public/read')).toBe('200')
    expect(await part('private/secret')).toBe(DENIED)
    expect(await part('shared/bert/his')).toBe(DENIED)
  })

  it('of the name readonly read everything and write nothing', async () => {
    expect(
      await refusalOf(
        bert.send(new GetObjectCommand(at('secret', 'private'))).then(({ Body }) => Body?.transformToString()),
      ),
    ).toBe('200')
    expect(await refusalOf(bert.send(new PutObjectCommand({ ...at('bert/new'), Body: 'x' })))).toBe(DENIED)
    const versioning = { Bucket: 'shared', VersioningConfiguration: { Status: 'Enabled' } } as const
    expect(await refusalOf(bert.send(new PutBucketVersioningCommand(versioning)))).toBe(DENIED)
  })

  it('hold for presigned URLs too', async () => {
    expect(await presignedStatus('bert/his')).toBe(403)
    expect(await presignedStatus('anna/mine')).toBe(200)
  })
})

async function presignedStatus(Key: string): Promise<number> {
  const url = await getSignedUrl(anna, new GetObjectCommand(at(Key)), { expiresIn: 60 })
  return new Promise((resolve, reject) => {
    get(url, { rejectUnauthorized: false, agent: false }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode ?? 0))
    }).on('error', reject)
  })
}
