/**
 * A container whose link to its neighbours is slow both ways, while what comes by a published port stays as quick as ever.
 *
 * What goes out is told apart by address (u32) and waits in a class of htb, a bucket of tokens. What comes in is handed to a device of its own (ifb) and
 * waits there. Both queues are short, so that a full one loses packets, as a narrow link does, rather than holding them for many seconds.
 */
import type { Container } from '../project.ts'
import type { Afterwards } from './fault.ts'
import { NetworkNamespace, type Attachment } from './network-namespace.ts'

export interface LinkSpeed {
  readonly bitsPerSecond: number
  /** What may go at once after a rest. */
  readonly burstBytes: number
}

const QUEUE_MS = 250
/** A queue takes some packets of the largest size, as the kernel hands them over. */
const QUEUE_BYTES_MIN = 256 * 1024
const INGRESS_DEVICE = 'slow'
const SLOW = '1:1'
/** In htb: past all classes, unshaped. */
const QUICK = '1:0'
const PROTOCOLS = { inet: ['ip', 'ip'], inet6: ['ipv6', 'ip6'] } as const

export async function slowLink(container: Container, speed: LinkSpeed, afterwards: Afterwards): Promise<void> {
  const namespace = await NetworkNamespace.of(container)
  const attachments = await namespace.attachments()
  const devices = new Set(attachments.map(({ device }) => device))
  for (const [index, device] of [...devices].entries()) {
    const onDevice = attachments.filter((attachment) => attachment.device === device)
    await shapeOutgoing(namespace, { device, attachments: onDevice, speed }, afterwards)
    await shapeIncoming(
      namespace,
      { device, attachments: onDevice, speed, queue: `${INGRESS_DEVICE}${index}` },
      afterwards,
    )
  }
}

interface Shaped {
  readonly device: string
  readonly attachments: readonly Attachment[]
  readonly speed: LinkSpeed
}

async function shapeOutgoing(
  namespace: NetworkNamespace,
  { device, attachments, speed }: Shaped,
  afterwards: Afterwards,
): Promise<void> {
  await addSlowQueue(namespace, device, { speed, others: 'quick' })
  afterwards(async () => await undo(namespace, ['tc', 'qdisc', 'del', 'dev', device, 'root']))
  for (const filter of filters(attachments, 'dst', { gateway: QUICK, neighbours: ['flowid', SLOW] }))
    await namespace.run(['tc', 'filter', 'add', 'dev', device, 'parent', '1:', ...filter])
}

async function shapeIncoming(
  namespace: NetworkNamespace,
  { device, attachments, speed, queue }: Shaped & { readonly queue: string },
  afterwards: Afterwards,
): Promise<void> {
  await namespace.run(['ip', 'link', 'add', queue, 'type', 'ifb'])
  afterwards(async () => await undo(namespace, ['ip', 'link', 'del', queue]))
  await addSlowQueue(namespace, queue, { speed, others: 'slow' })
  await namespace.run(['ip', 'link', 'set', queue, 'up'])
  await namespace.run(['tc', 'qdisc', 'add', 'dev', device, 'handle', 'ffff:', 'ingress'])
  afterwards(async () => await undo(namespace, ['tc', 'qdisc', 'del', 'dev', device, 'ingress']))
  const redirect = ['action', 'mirred', 'egress', 'redirect', 'dev', queue]
  for (const filter of filters(attachments, 'src', { gateway: QUICK, neighbours: redirect }))
    await namespace.run(['tc', 'filter', 'add', 'dev', device, 'parent', 'ffff:', ...filter])
}

async function addSlowQueue(
  namespace: NetworkNamespace,
  device: string,
  { speed, others }: { readonly speed: LinkSpeed; readonly others: 'quick' | 'slow' },
): Promise<void> {
  const rest = others === 'slow' ? ['default', '1'] : []
  const queueBytes = Math.max(QUEUE_BYTES_MIN, Math.round((speed.bitsPerSecond / 8) * (QUEUE_MS / 1000)))
  const rate = ['rate', `${speed.bitsPerSecond}bit`, 'burst', `${speed.burstBytes}b`]
  await namespace.run(['tc', 'qdisc', 'add', 'dev', device, 'root', 'handle', '1:', 'htb', ...rest])
  await namespace.run(['tc', 'class', 'add', 'dev', device, 'parent', '1:', 'classid', SLOW, 'htb', ...rate])
  await namespace.run(['tc', 'qdisc', 'add', 'dev', device, 'parent', SLOW, 'bfifo', 'limit', String(queueBytes)])
}

/** The gateway is asked for first: it lies in the neighbours' network. A preference belongs to one protocol. */
function filters(
  attachments: readonly Attachment[],
  side: 'src' | 'dst',
  to: { readonly gateway: string; readonly neighbours: readonly string[] },
): string[][] {
  return attachments.flatMap(({ family, network, gateway }, index) => {
    const [protocol, header] = PROTOCOLS[family]
    const filter = (preference: number, address: string, what: readonly string[]): string[] =>
      ['protocol', protocol, 'prio', String(index * 2 + preference), 'u32', 'match', header, side, address].concat(what)
    return [
      ...(gateway === undefined ? [] : [filter(1, gateway, ['flowid', to.gateway])]),
      filter(2, network, to.neighbours),
    ]
  })
}

async function undo(namespace: NetworkNamespace, command: readonly [string, ...string[]]): Promise<void> {
  if (namespace.lasts()) await namespace.run(command)
}
