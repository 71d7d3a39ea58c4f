import { BlockList, isIP } from 'node:net'
import { TidegateError } from '../../../common/errors.ts'

/**
 * What may be believed about where a request came from. X-Forwarded-For, -Host and -Proto count only when the socket's
 * other end is a configured proxy (SECURITY-LESSONS 5.1.9 and 5.2.17); anyone can write them.
 */
export interface OriginOptions {
  /** IP addresses or CIDR ranges of proxies in front of the gateway. */
  readonly trustedProxies: readonly string[]
  /** `https://s3.example.com`: what clients call us when a proxy in between rewrites Host and does not say so. */
  readonly externalUrl?: string | undefined
}

export interface OriginRequest {
  readonly host: string
  readonly forwardedFor: string | undefined
  readonly forwardedHost: string | undefined
  readonly forwardedProto: string | undefined
  readonly remoteAddress: string | undefined
  readonly tls: boolean
}

export interface OriginReader {
  read(request: OriginRequest): {
    readonly address: string
    readonly secure: boolean
    /** Hosts that the client may have signed, the likeliest first; never empty. */
    readonly hosts: readonly string[]
  }
}

/** @throws InvalidArgument naming a proxy or URL that cannot be used */
export function createOriginReader(options: OriginOptions): OriginReader {
  const proxies = trustedList(options.trustedProxies)
  const externalHost = options.externalUrl === undefined ? undefined : hostOf(options.externalUrl)
  const trusts = (address: string): boolean => {
    if (proxies === undefined) return false
    const version = isIP(address)
    return version !== 0 && proxies.check(address, version === 4 ? 'ipv4' : 'ipv6')
  }
  const withExternal = (hosts: string[]): string[] => {
    if (externalHost !== undefined && !hosts.includes(externalHost)) hosts.push(externalHost)
    return hosts
  }
  return {
    read(request) {
      const remote = plainAddress(request.remoteAddress ?? '')
      if (!trusts(remote)) {
        return { address: remote, secure: request.tls, hosts: withExternal([request.host]) }
      }
      const forwardedHost = lastOf(request.forwardedHost)
      const proto = lastOf(request.forwardedProto)
      return {
        address: clientBehind(remote, request.forwardedFor, trusts),
        secure: proto === undefined ? request.tls : proto.toLowerCase() === 'https',
        hosts: withExternal(
          forwardedHost === undefined || forwardedHost === request.host
            ? [request.host]
            : [forwardedHost, request.host],
        ),
      }
    },
  }
}

function trustedList(entries: readonly string[]): BlockList | undefined {
  if (entries.length === 0) return undefined
  const list = new BlockList()
  for (const entry of entries) addRange(list, entry)
  return list
}

function addRange(list: BlockList, entry: string): void {
  const [address = '', prefix, ...rest] = entry.split('/')
  const version = isIP(address)
  const bitsMax = version === 4 ? 32 : 128
  const bits = prefix === undefined ? bitsMax : Number(prefix)
  const valid = version !== 0 && rest.length === 0 && prefix !== '' && Number.isInteger(bits) && bits >= 0
  if (!valid || bits > bitsMax) {
    throw new TidegateError('InvalidArgument', `trusted proxy ${JSON.stringify(entry)} is no IP address or CIDR range`)
  }
  list.addSubnet(address, bits, version === 4 ? 'ipv4' : 'ipv6')
}

function hostOf(externalUrl: string): string {
  const url = URL.parse(externalUrl)
  const plain = url !== null && (url.protocol === 'http:' || url.protocol === 'https:') && url.pathname === '/'
  if (!plain || url.search !== '' || url.hash !== '' || url.username !== '') {
    const shown = JSON.stringify(externalUrl)
    throw new TidegateError('InvalidArgument', `external URL ${shown} is not of the form http[s]://HOST[:PORT]`)
  }
  return url.host
}

/** Each proxy appends whom it heard from: walking from the right, the first address that is not a proxy is the client. */
function clientBehind(remote: string, forwardedFor: string | undefined, trusts: (address: string) => boolean): string {
  const hops = (forwardedFor ?? '').split(',').map((hop) => plainAddress(hop.trim()))
  let client = remote
  for (const hop of hops.reverse()) {
    if (isIP(hop) === 0) return client
    client = hop
    if (!trusts(hop)) return client
  }
  return client
}

/** The nearest proxy's word: what stands before it may have been written by the client. */
function lastOf(list: string | undefined): string | undefined {
  const last = list?.slice(list.lastIndexOf(',') + 1).trim()
  return last === '' ? undefined : last
}

function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && isIP(address.slice(7)) === 4 ? address.slice(7) : address
}
