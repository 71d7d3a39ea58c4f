import { BlockList, isIP } from 'node:net'
import type { IncomingMessage } from 'node:http'

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addSubnet('::ffff:127.0.0.0', 104, 'ipv6')
LOOPBACK.addAddress('::1', 'ipv6')

/**
 * The connection itself comes from this machine. No header ever makes it so; one that a proxy leaves behind makes it not
 * so, because then somebody else may be asking through a proxy that runs here.
 */
export function isLoopbackPeer(request: IncomingMessage): boolean {
  const { headers } = request
  if (headers['x-forwarded-for'] !== undefined || headers['forwarded'] !== undefined) return false
  const peer = request.socket.remoteAddress ?? ''
  const family = isIP(peer)
  return family !== 0 && LOOPBACK.check(peer, family === 6 ? 'ipv6' : 'ipv4')
}
