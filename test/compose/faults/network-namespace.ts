/**
 * A container's network from outside: this machine's root enters its namespace with this machine's programs, so the image needs none of them.
 *
 * A container that is started again gets a new namespace, and perhaps another address. What was set in the old one is gone with it.
 */
import { readlinkSync } from 'node:fs'
import type { Container } from '../project.ts'
import { onHost } from './host-command.ts'

/** One address of a container. */
export interface Attachment {
  readonly family: 'inet' | 'inet6'
  readonly device: string
  readonly address: string
  /** The address with the length of its network's prefix, as iptables and tc take networks. */
  readonly network: string
  /** The bridge's own address. What comes by a published port comes from there. */
  readonly gateway: string | undefined
}

export class NetworkNamespace {
  readonly #pid: number
  readonly #identity: string

  private constructor(pid: number, identity: string) {
    this.#pid = pid
    this.#identity = identity
  }

  /** Of the container as it runs now. */
  static async of(container: Container): Promise<NetworkNamespace> {
    const pid = await container.pid()
    const identity = identityOf(pid)
    if (identity === undefined) throw new Error(`${container.service} does not run`)
    return new NetworkNamespace(pid, identity)
  }

  async run(command: readonly [string, ...string[]]): Promise<string> {
    return await onHost(['nsenter', '-t', String(this.#pid), '-n', ...command])
  }

  /** False once the container has ended. */
  lasts(): boolean {
    return identityOf(this.#pid) === this.#identity
  }

  async attachments(): Promise<Attachment[]> {
    const gateways = await this.#gateways()
    const links = JSON.parse(await this.run(['ip', '-j', 'address', 'show', 'scope', 'global'])) as readonly Link[]
    return links.flatMap(({ ifname, addr_info = [] }) =>
      addr_info
        .filter(({ scope }) => scope === 'global')
        .map(({ family, local, prefixlen }) => ({
          family,
          device: ifname,
          address: local,
          network: `${local}/${prefixlen}`,
          gateway: gateways.get(`${family} ${ifname}`),
        })),
    )
  }

  /** By family and device. */
  async #gateways(): Promise<Map<string, string>> {
    const gateways = new Map<string, string>()
    for (const [family, flag] of [
      ['inet', '-4'],
      ['inet6', '-6'],
    ] as const) {
      const routes = JSON.parse(await this.run(['ip', '-j', flag, 'route', 'show', 'default'])) as readonly Route[]
      for (const { dev, gateway } of routes) if (gateway !== undefined) gateways.set(`${family} ${dev}`, gateway)
    }
    return gateways
  }
}

/** What of `ip -j` is read here. */
interface Link {
  readonly ifname: string
  readonly addr_info?: readonly {
    readonly family: 'inet' | 'inet6'
    readonly local: string
    readonly prefixlen: number
    readonly scope: string
  }[]
}

interface Route {
  readonly dev: string
  readonly gateway?: string
}

function identityOf(pid: number): string | undefined {
  try {
    return pid > 0 ? readlinkSync(`/proc/${pid}/ns/net`) : undefined
  } catch {
    return undefined
  }
}
