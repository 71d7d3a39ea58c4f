/** What options about the other nodes must not say together. */
import { isIP } from 'node:net'
import { ConfigError } from './config-error.ts'
import type { Address, FabricMode, NodeLabel } from './values.ts'

export interface NeighbourOptions {
  readonly meta: unknown
  readonly cluster: unknown
  readonly neighbourAdvertise: Address | undefined
  readonly nodeLabel: readonly NodeLabel[]
  readonly fabric: FabricMode
  readonly fabricAddress: string | undefined
}

/** @throws ConfigError */
export function checkNeighbours(options: NeighbourOptions): void {
  const { meta, cluster, neighbourAdvertise, nodeLabel, fabric, fabricAddress } = options
  const isShared = (meta ?? cluster) !== undefined
  const stray = [
    neighbourAdvertise !== undefined && '--neighbour-advertise',
    nodeLabel.length > 0 && '--node-label',
    fabricAddress !== undefined && '--fabric-address',
  ].find((flag) => flag !== false)
  if (!isShared && stray !== undefined)
    throw new ConfigError(`${stray} is for gateways that share metadata, and there is neither --meta nor --cluster`)
  if (neighbourAdvertise !== undefined && isWildcard(neighbourAdvertise.host))
    throw new ConfigError('--neighbour-advertise: the other nodes must be told an address that they can connect to')
  if (fabricAddress !== undefined && isWildcard(fabricAddress))
    throw new ConfigError(`--fabric-address: ${fabricAddress} is no address that the other nodes can reach`)
  if (fabricAddress !== undefined && fabric === 'off') throw new ConfigError('--fabric-address: --fabric is off')
  const twice = nodeLabel.find(({ name }, at) => nodeLabel.findIndex((label) => label.name === name) !== at)
  if (twice !== undefined) throw new ConfigError(`--node-label: ${twice.name} is given twice`)
}

/** All addresses of a machine: one can listen there, and not connect. */
export function isWildcard(host: string): boolean {
  // However the zeros of an address are written.
  return isIP(host) > 0 ? /^[0.:]+$/.test(host) : host === '*'
}
