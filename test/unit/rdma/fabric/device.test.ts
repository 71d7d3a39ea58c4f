// needs: cc libfabric
/**
 * The native device against other processes, which can be stopped and killed: the six rules about failures that were found by trial. What holds for
 * every device within one process is in test/conformance/fabric-device.ts.
 *
 * TIDEGATE_TEST_FABRIC (`tcp`, `verbs`) and TIDEGATE_TEST_FABRIC_ADDRESS say by what. Where hardware moves the bytes, or what stands for it in a kernel, a
 * stopped process does not stop its memory from being read: there the rules show themselves with a process that is dead.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openFabricDevice } from '../../../../src/rdma/fabric/device.ts'
import { FabricFailure } from '../../../../src/rdma/fabric/ports.ts'
import type { Channel, FabricDevice, FabricProvider, Operation, Region } from '../../../../src/rdma/fabric/ports.ts'
import { PEER_BYTES, peerByte } from './device-peer-process.ts'
import { ADDRESS, begin, beginSoon, FabricPeer, outcomeOf, PROVIDER, settled } from './device-peer.ts'

const MIB = 1024 * 1024
const isSoftware = PROVIDER === 'tcp'
/** What tcp says of a key that is wrong: it ends the connection, and no more. */
const REFUSED = isSoftware ? 'gone' : 'refused'

let device: FabricDevice
let region: Region
let peers: FabricPeer[]

beforeEach(async () => {
  const opened = await openFabricDevice({ provider: PROVIDER, address: ADDRESS })
  if (opened.device === undefined) throw new Error(opened.reason)
  device = opened.device
  region = device.register(new Uint8Array(new SharedArrayBuffer(PEER_BYTES)), 'none')
  peers = []
})

afterEach(async () => {
  await Promise.all(peers.map((peer) => peer.kill()))
  await device.close()
})

async function startPeer(): Promise<FabricPeer> {
  const peer = await FabricPeer.start()
  peers.push(peer)
  return peer
}

async function channelTo(peer: FabricPeer): Promise<Channel> {
  const channel = device.open()
  channel.connect(await peer.open())
  return channel
}

function read(peer: FabricPeer, bytes: number, offset = 0): Omit<Operation, 'ended'> {
  return { kind: 'read', region, offset, bytes, remote: peer.remote('readable', offset) }
}

function write(peer: FabricPeer, bytes: number, offset = 0): Omit<Operation, 'ended'> {
  return { kind: 'write', region, offset, bytes, remote: peer.remote('writable', offset) }
}

function expectPeerBytes(offset: number, bytes: number): void {
  const expected = Uint8Array.from({ length: bytes }, (_, at) => peerByte(offset + at))
  expect(Buffer.compare(region.memory.subarray(offset, offset + bytes), expected)).toBe(0)
}

const isAll = (byte: number): boolean => region.memory.every((found) => found === byte)

describe('the native device and another process', () => {
  it('reads and writes, and says that a write has ended when the bytes are there', async () => {
    const peer = await startPeer()
    const channel = await channelTo(peer)
    expect(await outcomeOf(channel, read(peer, 3 * MIB + 5, 1_001))).toBe('well')
    expectPeerBytes(1_001, 3 * MIB + 5)
    for (const bytes of [1, 7, 8, 9, 4_096, MIB + 3]) {
      region.memory.fill(bytes & 0xff, 0, bytes)
      expect(await outcomeOf(channel, write(peer, bytes))).toBe('well')
      expect((await peer.look('writable', 0, bytes)).every((byte) => byte === (bytes & 0xff))).toBe(true)
    }
  })

  it.runIf(isSoftware)('a write has not ended while its bytes are on their way', async () => {
    const peer = await startPeer()
    const channel = await channelTo(peer)
    expect(await outcomeOf(channel, read(peer, 64))).toBe('well')
    await peer.pause()
    const started = begin(channel, write(peer, 4_096))
    if (started === 'later') throw new Error('a connected channel takes a write')
    expect(await settled(started, 1_000)).toBe('not ended')
    peer.goOn()
    expect(await settled(started)).toBe('well')
  })

  it('rule 1: a dead peer may be `later` for ever, ends nothing well, and holds nobody else up', async () => {
    const [dead, alive] = [await startPeer(), await startPeer()]
    const [toDead, toAlive] = [await channelTo(dead), await channelTo(alive)]
    await dead.kill()
    const waiting = outcomeOf(toDead, read(dead, 64), 2_000)
    for (let left = 50; left > 0; left--) {
      expect(await outcomeOf(toAlive, read(alive, 4_096, left * 4_096))).toBe('well')
      expectPeerBytes(left * 4_096, 4_096)
    }
    expect(['later', 'gone', 'failed', 'not ended']).toContain(await waiting)
    await toDead.close()
    expect(toDead.underWay).toBe(0)
  })

  it('rule 1: what was under way to a peer that dies ends, or is ended by closing; then a new process is reached', async () => {
    for (let round = 0; round < 5; round++) {
      const peer = await startPeer()
      const channel = await channelTo(peer)
      expect(await outcomeOf(channel, read(peer, 64))).toBe('well')
      const many = Array.from({ length: 7 }, (_, index) => begin(channel, read(peer, MIB, index * MIB)))
      const started = many.filter((each) => each !== 'later')
      expect(started.length).toBeGreaterThan(0)
      // Some of it has arrived in part.
      await sleep(round)
      await peer.kill()
      await Promise.race([Promise.all(started.map((each) => each.ended)), sleep(500)])
      await channel.close()
      const outcomes = await Promise.all(started.map((each) => settled(each)))
      for (const outcome of outcomes) expect(['well', 'gone', 'failed', 'cut off']).toContain(outcome)
    }
    const peer = await startPeer()
    expect(await outcomeOf(await channelTo(peer), read(peer, MIB))).toBe('well')
    expectPeerBytes(0, MIB)
  })

  it('rule 2: with `hurry` what is held back gets its turn, without anything else going on', async () => {
    const peer = await startPeer()
    const channel = await channelTo(peer)
    const first = begin(channel, read(peer, 64))
    if (first !== 'later') {
      // A provider that connects at once.
      expect(await settled(first)).toBe('well')
      return
    }
    channel.hurry(true)
    let tries = 1
    let started = first as ReturnType<typeof begin>
    for (; started === 'later' && tries < 10_000; tries++) {
      await sleep(1)
      started = begin(channel, read(peer, 64))
    }
    channel.hurry(false)
    if (started === 'later') throw new Error(`not taken in ${tries} tries`)
    expect(await settled(started)).toBe('well')
  })

  it.runIf(isSoftware)('rule 3: a read of a peer that has stopped lands when it goes on', async () => {
    const peer = await startPeer()
    const channel = await channelTo(peer)
    expect(await outcomeOf(channel, read(peer, 64))).toBe('well')
    await peer.pause()
    const started = begin(channel, read(peer, MIB))
    if (started === 'later') throw new Error('a connected channel takes a read')
    expect(await settled(started, 1_000)).toBe('not ended')
    expect(channel.underWay).toBe(1)
    region.memory.fill(0xa5)
    peer.goOn()
    expect(await settled(started)).toBe('well')
    expectPeerBytes(0, MIB)
  })

  it('rule 3: once the channel is closed nothing lands any more', async () => {
    const peer = await startPeer()
    const channel = await channelTo(peer)
    expect(await outcomeOf(channel, read(peer, 64))).toBe('well')
    await peer.pause()
    const many = Array.from({ length: 8 }, (_, index) => begin(channel, read(peer, MIB, index * MIB)))
    const started = many.filter((each) => each !== 'later')
    expect(started.length).toBeGreaterThan(0)
    await sleep(300)
    const beganMs = performance.now()
    await channel.close()
    expect(performance.now() - beganMs).toBeLessThan(10_000)
    for (const each of started) {
      expect(each.hasEnded).toBe(true)
      if (isSoftware) expect(await settled(each)).toBe('cut off')
    }
    region.memory.fill(0xa5)
    peer.goOn()
    const next = await channelTo(peer)
    await sleep(500)
    expect(isAll(0xa5)).toBe(true)
    expect(await outcomeOf(next, read(peer, MIB))).toBe('well')
    expectPeerBytes(0, MIB)
  })

  it('rule 4: an end that is closed takes nothing, and no address is left to be used', async () => {
    const peer = await startPeer()
    const channel = await channelTo(peer)
    const waiting = beginSoon(channel, read(peer, 64), 200)
    await waiting
    const closing = channel.close()
    expect(() => begin(channel, read(peer, 64))).toThrow(FabricFailure)
    await closing
    expect(() => begin(channel, read(peer, 64))).toThrow(FabricFailure)
    expect(() => channel.connect(new Uint8Array(16))).toThrow()
    expect(await outcomeOf(await channelTo(peer), read(peer, 64))).toBe('well')
  })

  it('rule 5: what is refused costs that channel alone, and a fresh one works', async () => {
    const peer = await startPeer()
    const bystander = await channelTo(peer)
    expect(await outcomeOf(bystander, read(peer, 64))).toBe('well')
    const wrong: Record<string, Omit<Operation, 'ended'>> = {
      'a wrong key': { ...read(peer, 64), remote: { ...peer.remote('readable'), key: 0x5555n } },
      'a closed region': { ...read(peer, 64), remote: peer.remote('closed') },
      'beyond the end': { ...read(peer, 64), remote: peer.remote('readable', PEER_BYTES - 63) },
      'a write of what is for reading': { ...write(peer, 64), remote: peer.remote('readable') },
    }
    for (const [what, operation] of Object.entries(wrong)) {
      const channel = await channelTo(peer)
      expect([what, await outcomeOf(channel, read(peer, 64))]).toEqual([what, 'well'])
      region.memory.fill(0xa5)
      expect([what, await outcomeOf(channel, operation)]).toEqual([what, REFUSED])
      expect(isAll(0xa5)).toBe(true)
      expect(await outcomeOf(channel, read(peer, 64), 200)).not.toBe('well')
      await channel.close()
      expect([what, await outcomeOf(bystander, read(peer, 4_096))]).toEqual([what, 'well'])
    }
    const untouched = await peer.look('readable', 0, 64)
    expect([...untouched]).toEqual(Array.from({ length: 64 }, (_, at) => peerByte(at)))
  })

  it('rule 6: no provider is offered that hangs on the dead and takes wrong keys', async () => {
    for (const provider of ['shm', 'sockets', '', '__proto__']) {
      const opened = await openFabricDevice({ provider: provider as FabricProvider, address: ADDRESS })
      expect([provider, opened.device]).toEqual([provider, undefined])
      expect(opened.reason).toMatch(/^[^\n]+$/)
    }
  })
})

describe('what cannot be opened', () => {
  it.each([
    ['a name', 'localhost'],
    ['nothing', ''],
    ['another machine', '192.0.2.77'],
  ])('has a reason in one line: %s', async (_, address) => {
    const beganMs = performance.now()
    const opened = await openFabricDevice({ provider: PROVIDER, address })
    expect(opened.device).toBe(undefined)
    expect(opened.reason).toMatch(/^[^\n]{10,200}$/)
    expect(performance.now() - beganMs).toBeLessThan(10_000)
  })

  it.runIf(isSoftware)('so it is with verbs where there is no adapter', async () => {
    const opened = await openFabricDevice({ provider: 'verbs', address: ADDRESS })
    expect(opened.device).toBe(undefined)
    expect(opened.reason).toMatch(/^[^\n]*verbs[^\n]*$/)
  })

  it('memory that could shrink is not registered', () => {
    expect(() => device.register(new Uint8Array(new ArrayBuffer(4_096, { maxByteLength: 8_192 })), 'read')).toThrow(
      /fixed size/,
    )
  })
})
