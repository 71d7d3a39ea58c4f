/** The node whose memory is read, for `rdma`: `node owner-process.ts WAY SECRET` (hex). Tells its parent where it is reached and how much processor time it has had, and ends with it. */
import { randomFillSync } from 'node:crypto'
import type { NodeMember } from '../../src/common/node-view.ts'
import { cpuSeconds, makeNode, memberAt, MIB, openDevice, OWNER, READER, SLAB_BYTES, SLOTS } from './place.ts'
import type { OwnerReady, ToOwner, Way } from './place.ts'

const [way, secret] = process.argv.slice(2) as [Way, string]
const slab = new SharedArrayBuffer(SLAB_BYTES)
for (let slot = 0; slot < SLOTS; slot++) randomFillSync(new Uint8Array(slab, slot * MIB, MIB))
const members = new Map<number, NodeMember>()
let onReader: (name: string) => void = () => undefined

async function serveDevice(): Promise<OwnerReady> {
  const device = await openDevice()
  const region = device.register(new Uint8Array(slab), 'read')
  const channel = device.open()
  onReader = (name) => channel.connect(Buffer.from(name, 'hex'))
  // Kept: what nobody refers to is collected.
  process.on('exit', () => void [region.isClosed, channel.isClosed])
  const { key, address } = region
  return { name: Buffer.from(channel.name).toString('hex'), key: key.toString(16), base: address.toString(16) }
}

async function serveCalls(how: Exclude<Way, 'device'>): Promise<OwnerReady> {
  const { transport } = await makeNode(OWNER, how, { members, secret: Buffer.from(secret, 'hex'), slab })
  const answerHead = Buffer.alloc(73)
  transport.serve('block', async ({ head }) => {
    const asked = Buffer.from(head.buffer, head.byteOffset, head.length)
    const pieces = [new Uint8Array(slab, (asked.readUInt32LE() % SLOTS) * MIB, asked.readUInt32LE(4))]
    return { head: answerHead, pieces, sent: () => undefined }
  })
  transport.serve('copy-write', async () => ({ head: new Uint8Array(0) }))
  await transport.start()
  return { address: transport.address }
}

process.on('message', (message: ToOwner) => {
  if (message.kind === 'cpu') process.send?.(cpuSeconds())
  else if (message.name !== undefined) onReader(message.name)
  else members.set(READER, memberAt(READER, message.address ?? ''))
})
process.on('disconnect', () => process.exit(0))
process.send?.(way === 'device' ? await serveDevice() : await serveCalls(way))
