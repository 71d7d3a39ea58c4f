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

/** Everything acknowledged so far is in the remote store when it resolves. Costs no process of its own. */
export async function drainFlusher(gateway: GatewayProcess): Promise<void> {
  const { accessKey, secretKey } = gateway.root
  const authorization = `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
  let through: number | undefined
  for (const deadlineMs = Date.now() + DRAIN_MS_MAX; Date.now() < deadlineMs;) {
    const response = await fetch(`${gateway.http}/admin/v1/flush/drain`, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: JSON.stringify({ waitSeconds: 10, ...(through !== undefined && { through }) }),
    })
    if (!response.ok) throw new Error(`the drain was answered with ${response.status}: ${await response.text()}`)
    const answer = (await response.json()) as { readonly drained: boolean; readonly through: number }
    if (answer.drained) return
    through = answer.through
  }
  throw new Error(`not drained after ${DRAIN_MS_MAX} ms`)
}
