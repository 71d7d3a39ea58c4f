/** Which node's member of etcd leads, as the members say themselves. */
import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { text } from 'node:stream/consumers'
import type { Container } from '../project.ts'

const CLIENT_PORT = 2379
const ANSWER_WITHIN_MS = 2_000

/** Rejects while none of the nodes leads, or none says so. */
export async function leaderOf(nodes: readonly Container[]): Promise<Container> {
  const troubles: string[] = []
  for (const node of nodes) {
    try {
      if (await leads(node)) return node
      troubles.push(`${node.service} follows`)
    } catch (error) {
      troubles.push(`${node.service}: ${String(error)}`)
    }
  }
  throw new Error(`no node is known to lead: ${troubles.join('; ')}`)
}

/** Asks with the node's own certificate, which docker/compose.cluster.yml has in the container. */
async function leads(node: Container): Promise<boolean> {
  const secrets = `/proc/${await node.pid()}/root/run/tidegate`
  const answer = await ask(await node.address(), {
    servername: node.service,
    ca: readFileSync(`${secrets}/ca.pem`),
    cert: readFileSync(`${secrets}/${node.service}.pem`),
    key: readFileSync(`${secrets}/${node.service}.key`),
  })
  const { header, leader } = JSON.parse(answer) as { header: { member_id: string }; leader?: string }
  return leader === header.member_id
}

async function ask(host: string, tls: { servername: string; ca: Buffer; cert: Buffer; key: Buffer }): Promise<string> {
  const signal = AbortSignal.timeout(ANSWER_WITHIN_MS)
  return await new Promise((resolve, reject) => {
    const path = '/v3/maintenance/status'
    const call = request({ ...tls, host, port: CLIENT_PORT, path, method: 'POST', agent: false, signal })
    call.on('error', reject)
    call.on('response', (response) => void text(response).then(resolve, reject))
    call.end('{}')
  })
}
