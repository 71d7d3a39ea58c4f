/** The external store that buckets of a test are attached to, and the comparison of such a bucket with what lies outside. */
import { createHash } from 'node:crypto'
import { GetObjectCommand, paginateListObjectsV2, type S3Client } from '@aws-sdk/client-s3'
import { startRemote, type RemoteKind, type RemoteTarget } from '../write-behind/remote/remote-target.ts'
import { PROBE_PREFIX } from '../../src/persist/external/external-probe.ts'
import { attachBucket, carriedOut, type AttachmentRequest } from './attached-buckets.ts'
import type { GatewayProcess } from './gateway-process.ts'
import { sdkClient } from './sdk-client.ts'

/** Short, so that a test need not wait for what others do. */
const TTL_MS = 1_000

export class AttachedStore {
  readonly remote: RemoteTarget
  /** A client of the external store; ends with it. */
  readonly outside: S3Client
  readonly #buckets = new Set<string>()

  private constructor(remote: RemoteTarget) {
    this.remote = remote
    this.outside = remote.client()
  }

  static async start(to: RemoteKind | RemoteTarget): Promise<AttachedStore> {
    return new AttachedStore(typeof to === 'string' ? await startRemote(to) : to)
  }

  /** Where the objects of an attached bucket lie: below a prefix of its own in the one external bucket. */
  prefix(bucket: string): string {
    return `${bucket}/`
  }

  url(bucket: string, endpoint?: string): string {
    return this.remote.flags(this.prefix(bucket), endpoint)[1] ?? ''
  }

  async attach(
    gateway: GatewayProcess,
    bucket: string,
    policy: Partial<AttachmentRequest> & { readonly endpoint?: string } = {},
  ): Promise<void> {
    const { endpoint, ...more } = policy
    const url = this.url(bucket, endpoint)
    await attachBucket(gateway, { bucket, url, ttlMs: TTL_MS, listingTtlMs: TTL_MS, ...more })
    this.#buckets.add(bucket)
  }

  /** Waits until all is carried out, and compares every attached bucket. @throws Error that says where they differ */
  async compareAll(gateway: GatewayProcess): Promise<void> {
    for (const bucket of this.#buckets) await this.compare(gateway, bucket)
  }

  async compare(gateway: GatewayProcess, bucket: string): Promise<void> {
    await carriedOut(gateway, bucket)
    const client = sdkClient(gateway)
    try {
      const here = await contentsOf(client, bucket, '')
      const there = await contentsOf(this.outside, this.remote.bucket, this.prefix(bucket))
      const keys = new Set([...here.keys(), ...there.keys()])
      const differing = [...keys].filter((key) => here.get(key) !== there.get(key))
      if (differing.length === 0) return
      const lines = differing.map((key) => `${key}: ${here.get(key) ?? 'nothing'} here, ${there.get(key) ?? 'nothing'}`)
      throw new Error(`${bucket} differs from what lies outside:\n${lines.slice(0, 20).join('\n')}`)
    } finally {
      client.destroy()
    }
  }

  async stop(): Promise<void> {
    this.outside.destroy()
    await this.remote.stop()
  }
}

/** For the mount's model test: what it makes its bucket by, and what it compares it with in the end. */
export function modelInStore(
  mounted: { readonly gateway: GatewayProcess },
  store: AttachedStore,
): { attach(bucket: string): Promise<void>; compareOutside(bucket: string): Promise<void> } {
  return {
    attach: (bucket) => store.attach(mounted.gateway, bucket),
    compareOutside: (bucket) => store.compare(mounted.gateway, bucket),
  }
}

/** Key -> size, ETag and digest, of all below a prefix but what asks the store what it can do: after a start that comes and goes. */
export async function contentsOf(client: S3Client, Bucket: string, Prefix: string): Promise<Map<string, string>> {
  const contents = new Map<string, string>()
  for await (const page of paginateListObjectsV2({ client }, { Bucket, Prefix })) {
    for (const { Key = '' } of page.Contents ?? []) {
      const name = Key.slice(Prefix.length)
      if (name.startsWith(PROBE_PREFIX)) continue
      const { Body, ETag } = await client.send(new GetObjectCommand({ Bucket, Key }))
      const bytes = (await Body?.transformToByteArray()) ?? new Uint8Array()
      const digest = createHash('sha256').update(bytes).digest('hex')
      contents.set(name, `${bytes.length} bytes ${ETag ?? ''} ${digest}`)
    }
  }
  return contents
}
