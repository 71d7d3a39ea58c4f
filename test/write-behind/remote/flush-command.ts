/** `tidegate flush` against a gateway of a test: as people use it, and by the requests that it makes. */
import type { GatewayProcess } from '../../support/gateway-process.ts'
import { runTidegate } from '../../support/command-line.ts'

export type FlushVerb = 'status' | 'pause' | 'resume' | 'drain'

const DRAIN_MS_MAX = 180_000

export async function flushCommand(
  gateway: GatewayProcess,
  verb: FlushVerb,
  options: readonly string[] = [],
): Promise<string> {
  const { code, output } = await runTidegate(['flush', verb, '--gateway', gateway.http, ...options], {
    TIDEGATE_ROOT_USER: gateway.root.accessKey,
    TIDEGATE_ROOT_PASSWORD: gateway.root.secretKey,
  })
  if (code !== 0) throw new Error(`tidegate flush ${verb} ended with ${code}: ${output}`)
  return output
}

/** The bytes of everything acknowledged so far are in the remote store when it resolves. Costs no process of its own. */
export async function drainFlusher(gateway: GatewayProcess): Promise<void> {
  let through: number | undefined
  for (const deadlineMs = Date.now() + DRAIN_MS_MAX; Date.now() < deadlineMs;) {
    const body = { waitSeconds: 10, ...(through !== undefined && { through }) }
    const answer = (await post(gateway, 'flush/drain', body)) as { readonly drained: boolean; readonly through: number }
    if (answer.drained) return
    through = answer.through
  }
  throw new Error(`not drained after ${DRAIN_MS_MAX} ms`)
}

/** And what names them, with the bodies that lie in the names: a backup is complete when they have arrived. */
export async function drainNames(gateway: GatewayProcess): Promise<void> {
  for (const deadlineMs = Date.now() + DRAIN_MS_MAX; Date.now() < deadlineMs;) {
    const { complete } = (await post(gateway, 'backups', { waitSeconds: 10 })) as { readonly complete: boolean }
    if (complete) return
  }
  throw new Error(`names have not arrived after ${DRAIN_MS_MAX} ms`)
}

async function post({ http, root }: GatewayProcess, path: string, body: object): Promise<unknown> {
  const authorization = `Basic ${Buffer.from(`${root.accessKey}:${root.secretKey}`).toString('base64')}`
  const response = await fetch(`${http}/admin/v1/${path}`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (!response.ok) throw new Error(`${path} was answered with ${response.status}: ${await response.text()}`)
  return await response.json()
}
