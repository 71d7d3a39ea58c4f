/**
 * Cuts between containers, by rules of iptables in their network namespaces.
 *
 * A cut between two is made where packets arrive, by the address of the sender. A container that is cut from all others of its network drops what comes
 * from that network, or goes there, so that it stays cut from one that meanwhile starts with another address. The gateway is left out: clients
 * that use a published port come from there, and are to see what a node does that has lost the others.
 *
 * Who has which hardware address is still told: by ARP, which no rule sees, and by ICMPv6, which is left alone for that. Without it a cut of one way would
 * soon be one of both.
 *
 * Packets are lost and nothing is refused. Since TCP needs both ways, a cut of one way ends connections too, only with the sender none the wiser.
 */
import type { Container } from '../project.ts'
import type { Afterwards } from './fault.ts'
import { NetworkNamespace, type Attachment } from './network-namespace.ts'

const IPTABLES = { inet: 'iptables', inet6: 'ip6tables' } as const
const LOCK_WAIT_SECONDS = '5'
const DROP = { inet: ['-j', 'DROP'], inet6: ['!', '-p', 'ipv6-icmp', '-j', 'DROP'] } as const

export type Way = 'hears nobody' | 'heard by nobody'

interface Rule {
  readonly family: Attachment['family']
  readonly rule: readonly string[]
}

/** `deaf` hears nothing of `speaker` any more; that one still hears it. */
export async function cutOneWay(deaf: Container, speaker: Container, afterwards: Afterwards): Promise<void> {
  const from = await (await NetworkNamespace.of(speaker)).attachments()
  const rules = from.map(({ family, address }) => ({ family, rule: ['INPUT', '-s', address, ...DROP[family]] }))
  await addRules(await NetworkNamespace.of(deaf), rules, afterwards)
}

/** Nobody of the one side hears anybody of the other. */
export async function cutBothWays(
  side: readonly Container[],
  otherSide: readonly Container[],
  afterwards: Afterwards,
): Promise<void> {
  for (const one of side) {
    for (const other of otherSide) {
      await cutOneWay(one, other, afterwards)
      await cutOneWay(other, one, afterwards)
    }
  }
}

/** From all that are in its networks, but not from who comes by a published port. */
export async function cutOff(container: Container, ways: readonly Way[], afterwards: Afterwards): Promise<void> {
  const namespace = await NetworkNamespace.of(container)
  const attachments = await namespace.attachments()
  for (const way of ways) {
    const [chain, match] = way === 'hears nobody' ? (['INPUT', '-s'] as const) : (['OUTPUT', '-d'] as const)
    const rules = attachments.flatMap(({ family, network, gateway }): Rule[] => [
      ...(gateway === undefined ? [] : [{ family, rule: [chain, match, gateway, '-j', 'ACCEPT'] }]),
      { family, rule: [chain, match, network, ...DROP[family]] },
    ])
    await addRules(namespace, rules, afterwards)
  }
}

async function addRules(namespace: NetworkNamespace, rules: readonly Rule[], afterwards: Afterwards): Promise<void> {
  if (rules.length === 0) throw new Error('nobody to cut: a container has no address')
  for (const { family, rule } of rules) {
    await namespace.run([IPTABLES[family], '-w', LOCK_WAIT_SECONDS, '-A', ...rule])
    afterwards(async () => {
      if (namespace.lasts()) await namespace.run([IPTABLES[family], '-w', LOCK_WAIT_SECONDS, '-D', ...rule])
    })
  }
}
