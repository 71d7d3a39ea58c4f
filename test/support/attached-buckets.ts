/** Buckets of a gateway of a test that are attached to an external store, by the admin API. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { GatewayProcess } from './gateway-process.ts'

const CARRIED_OUT_MS_MAX = 60_000
const POLL_MS = 50

export interface AttachmentRequest {
  readonly bucket: string
  readonly url: string
  readonly conflicts?: 'fail' | 'keep-both' | 'last-writer-wins'
  readonly ttlMs?: number
  readonly listingTtlMs?: number
  readonly ack?: 'memory' | 'journal' | 'persisted'
}

export interface AttachmentStatus {
  readonly bucket: string
  readonly state: 'attached' | 'detaching'
  readonly problem: string | null
  readonly writeBack: {
    readonly dirty: number
    readonly conflicts: number
    readonly underWay: number
    readonly failed: readonly { readonly key: string; readonly cause: { readonly code: string } }[]
    readonly renames: readonly { readonly from: string; readonly to: string }[]
  }
}

const PATH = '/admin/v1/attachments'

export async function attachBucket(gateway: GatewayProcess, request: AttachmentRequest): Promise<void> {
  await callAdmin(gateway, 'POST', PATH, request)
}

export async function attachmentStatus(gateway: GatewayProcess, bucket: string): Promise<AttachmentStatus> {
  return (await callAdmin(gateway, 'GET', `${PATH}/${bucket}`)) as AttachmentStatus
}

/** Waits until the external bucket has everything but what is in conflict. @throws Error that names what it does not have */
export async function carriedOut(gateway: GatewayProcess, bucket: string): Promise<void> {
  const deadlineMs = Date.now() + CARRIED_OUT_MS_MAX
  for (;;) {
    const { writeBack } = await attachmentStatus(gateway, bucket)
    if (writeBack.dirty === 0 && writeBack.underWay === 0 && writeBack.renames.length === 0) return
    if (Date.now() > deadlineMs) {
      const { conflicts } = (await callAdmin(gateway, 'GET', `${PATH}/${bucket}/conflicts`)) as { conflicts: unknown }
      throw new Error(`not carried out: ${JSON.stringify(writeBack)}, conflicts ${JSON.stringify(conflicts)}`)
    }
    await sleep(POLL_MS)
  }
}

export async function callAdmin(
  { http, root }: GatewayProcess,
  method: string,
  path: string,
  body?: object,
): Promise<unknown> {
  const authorization = `Basic ${Buffer.from(`${root.accessKey}:${root.secretKey}`).toString('base64')}`
  const response = await fetch(`${http}${path}`, {
    method,
    headers: { authorization, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  if (!response.ok) throw new Error(`${method} ${path} was answered with ${response.status}: ${await response.text()}`)
  return await response.json()
}
