/** Starts owner-process.ts, and what reads it in the benchmark's own process. */
import { fork, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { must } from '../../src/common/assert.ts'
import { systemClock } from '../../src/common/clock.ts'
import type { NodeMember } from '../../src/common/node-view.ts'
import { Operations } from '../../src/rdma/fabric/operations.ts'
import { whenEnding } from '../ending.ts'
import type { Reads } from './c-peers.ts'
import { cpuSeconds, makeNode, memberAt, MIB, openDevice, OWNER, READER, SLAB_BYTES, SLOTS } from './place.ts'
import type { OwnerReady, ToOwner, Way } from './place.ts'

const PROGRAM = fileURLToPath(new URL('owner-process.ts', import.meta.url))
const CALL_MS_MAX = 20_000

/** Moves one body of so many bytes; lanes have memory of their own. */
type MoveOne = (index: number, lane: number, bytes: number) => Promise<unknown>

export interface Mover {
  /** From the other node's memory to this one's. */
  readonly read: MoveOne
  /** In a request. */
  readonly copy: MoveOne | undefined
  ownerCpu(): Promise<number>
  end(): Promise<void>
}

class Owner {
  readonly #child: ChildProcess
  readonly #done: () => void

  constructor(way: Way, secret: Buffer) {
    const child = fork(PROGRAM, [way, secret.toString('hex')], { execArgv: [] })
    this.#child = child
    this.#done = whenEnding(() => void child.kill('SIGKILL'))
  }

  async told<Message>(): Promise<Message> {
    const [message] = (await once(this.#child, 'message')) as [Message]
    return message
  }

  tell(message: ToOwner): void {
    this.#child.send(message)
  }

  async cpu(): Promise<number> {
    this.tell({ kind: 'cpu' })
    return await this.told<number>()
  }

  end(): void {
    this.#child.kill('SIGKILL')
    this.#done()
  }
}

/** Reads by the addon alone, as operations.ts has them carried out. */
export async function deviceMover(): Promise<Mover> {
  const owner = new Owner('device', randomBytes(32))
  const { name = '', key = '', base = '' } = await owner.told<OwnerReady>()
  const device = await openDevice()
  const region = device.register(new Uint8Array(new SharedArrayBuffer(SLAB_BYTES)), 'none')
  const channel = device.open()
  owner.tell({ kind: 'reader', name: Buffer.from(channel.name).toString('hex') })
  channel.connect(Buffer.from(name, 'hex'))
  const operations = new Operations({
    channel,
    operationBytesMax: device.operationBytesMax,
    clock: systemClock,
    limits: { operationsMax: 64, bytesMax: 64 * MIB },
    onStuck: () => void channel.close(),
  })
  const remote = { key: BigInt(`0x${key}`), address: BigInt(`0x${base}`) }
  return {
    read: (index, lane, bytes) => {
      const from = { key: remote.key, address: remote.address + BigInt((index % SLOTS) * MIB) }
      const deadlineMs = systemClock.monotonicMs() + CALL_MS_MAX
      return operations.transfer({ kind: 'read', region, offset: lane * MIB, bytes, remote: from, deadlineMs })
    },
    copy: undefined,
    ownerCpu: () => owner.cpu(),
    async end() {
      await device.close()
      owner.end()
    },
  }
}

/** Calls between nodes. */
export async function callMover(way: Exclude<Way, 'device'>): Promise<Mover> {
  const secret = randomBytes(32)
  const owner = new Owner(way, secret)
  const { address = '' } = await owner.told<OwnerReady>()
  const slab = new SharedArrayBuffer(SLAB_BYTES)
  const members = new Map<number, NodeMember>([[OWNER, memberAt(OWNER, address)]])
  const { transport, fabric } = await makeNode(READER, way, { members, secret, slab })
  await transport.start()
  owner.tell({ kind: 'reader', address: transport.address })
  if (fabric !== undefined && !(await fabric.prepare(OWNER))) {
    const [peer] = fabric.figures.peers
    throw new Error(`there is no fabric: ${peer?.fabric?.lastFailure}`)
  }
  return {
    read: async (index, lane, bytes) => {
      const head = Buffer.alloc(8)
      head.writeUInt32LE(index)
      head.writeUInt32LE(bytes, 4)
      const into = new Uint8Array(slab, lane * MIB, MIB)
      const { body } = await transport.call(OWNER, { method: 'block', head }, { timeoutMs: CALL_MS_MAX, into })
      if (body.length !== bytes) throw new Error(`${body.length} bytes came instead of ${bytes}`)
    },
    copy: (_, lane, bytes) => {
      const pieces = [new Uint8Array(slab, lane * MIB, bytes)]
      return transport.call(
        OWNER,
        { method: 'copy-write', head: Buffer.alloc(100), pieces },
        { timeoutMs: CALL_MS_MAX },
      )
    },
    ownerCpu: () => owner.cpu(),
    async end() {
      await transport.stop()
      owner.end()
    },
  }
}

/** How fast bodies of a size are moved, so many in flight, and what that costs. */
export async function moved(
  mover: Mover,
  one: MoveOne | undefined,
  { bytes, inFlight, seconds }: { readonly bytes: number; readonly inFlight: number; readonly seconds: number },
): Promise<Reads> {
  const move = must(one, 'a way to move bodies')
  const [ownerBefore, readerBefore] = [await mover.ownerCpu(), cpuSeconds()]
  const startMs = performance.now()
  const endMs = startMs + seconds * 1000
  let count = 0
  const lane = async (_: unknown, at: number): Promise<void> => {
    while (performance.now() < endMs) await move(count++, at, bytes)
  }
  await Promise.all(Array.from({ length: inFlight }, lane))
  const took = (performance.now() - startMs) / 1000
  const gib = (count * bytes) / 2 ** 30
  const readerCpu = (cpuSeconds() - readerBefore) / gib
  return { perSecond: count / took, readerCpu, ownerCpu: ((await mover.ownerCpu()) - ownerBefore) / gib }
}
