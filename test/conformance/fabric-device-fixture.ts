/** Two devices of the fabric and memory of each, for the suite that devices are held to (fabric-device.ts). */
import { expect } from 'vitest'
import { FabricFailure } from '../../src/rdma/fabric/ports.ts'
import type {
  Channel,
  FabricDevice,
  FailureKind,
  Operation,
  Region,
  RemoteMemory,
} from '../../src/rdma/fabric/ports.ts'
import { Random, testSeed } from '../model/random.ts'

export interface FabricDeviceHarness {
  /** Two that reach each other, within this process. */
  readonly open: () => Promise<readonly [FabricDevice, FabricDevice]>
}

export const MIB = 1024 * 1024
export const POOL_BYTES = 8 * MIB
/** No operation between two devices of one process takes so long. */
export const PATIENCE_MS = 20_000

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** What became of an operation: undefined, it has not ended. */
export type Outcome = 'well' | FailureKind | undefined

export interface Started {
  outcome: Outcome
  /** How often `ended` was called. */
  times: number
}

/** What the device refuses on the spot has ended with that. */
export function start(channel: Channel, operation: Omit<Operation, 'ended'>): Started | 'later' {
  const started: Started = { outcome: undefined, times: 0 }
  let isWithin = true
  const ended = (failure: FabricFailure | undefined): void => {
    expect(isWithin).toBe(false)
    started.times++
    started.outcome = failure === undefined ? 'well' : failure.kind
  }
  try {
    if (channel.start({ ...operation, ended }) === 'later') return 'later'
  } catch (error) {
    if (!(error instanceof FabricFailure)) throw error
    return { outcome: error.kind, times: 1 }
  } finally {
    isWithin = false
  }
  return started
}

/** Tries until it is taken; `later` once patience is at an end. */
export async function startSoon(
  channel: Channel,
  operation: Omit<Operation, 'ended'>,
  patienceMs = PATIENCE_MS,
): Promise<Started | 'later'> {
  const untilMs = performance.now() + patienceMs
  let started = start(channel, operation)
  if (started === 'later') channel.hurry(true)
  while (started === 'later' && performance.now() < untilMs) {
    await sleep(1)
    if (channel.isClosed) return 'later'
    started = start(channel, operation)
  }
  if (!channel.isClosed) channel.hurry(false)
  return started
}

export async function outcomeOf(
  channel: Channel,
  operation: Omit<Operation, 'ended'>,
  patienceMs = PATIENCE_MS,
): Promise<Outcome | 'later'> {
  const untilMs = performance.now() + patienceMs
  const started = await startSoon(channel, operation, patienceMs)
  if (started === 'later') return 'later'
  while (started.outcome === undefined && performance.now() < untilMs) await sleep(0)
  return started.outcome
}

export async function until(what: string, condition: () => boolean): Promise<void> {
  const untilMs = performance.now() + PATIENCE_MS
  while (!condition()) {
    if (performance.now() > untilMs) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`)
    await sleep(1)
  }
}

export function filled(memory: Uint8Array, seed: number): Uint8Array {
  for (let at = 0; at < memory.length; at++) memory[at] = (Math.imul(at + seed, 2654435761) >>> 13) & 0xff
  return memory
}

export function isFilled(memory: Uint8Array, byte: number): boolean {
  return same(memory, new Uint8Array(memory.length).fill(byte))
}

export function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0
}

export const there = (region: Region, offset = 0): RemoteMemory => ({
  key: region.key,
  address: region.address + BigInt(offset),
})

export class FabricEnds {
  readonly one: FabricDevice
  readonly two: FabricDevice
  readonly random: Random
  /** Of the first device, for its operations. */
  readonly mine: Region
  /** Of the second, which the first may reach. */
  readonly theirs: Region

  constructor([one, two]: readonly [FabricDevice, FabricDevice]) {
    const seed = testSeed()
    console.log(`TIDEGATE_TEST_SEED=${seed}`)
    this.random = new Random(seed)
    this.one = one
    this.two = two
    this.mine = one.register(new Uint8Array(new SharedArrayBuffer(POOL_BYTES)), 'none')
    this.theirs = two.register(filled(new Uint8Array(POOL_BYTES), 1), 'read and write')
  }

  async close(): Promise<void> {
    await Promise.all([this.one.close(), this.two.close()])
  }

  /** From the first device to the second; the other end only waits, as the owner of memory does. */
  pair(): { channel: Channel; other: Channel } {
    const [channel, other] = [this.one.open(), this.two.open()]
    channel.connect(other.name)
    return { channel, other }
  }

  read(offset: number, bytes: number, from = 0): Omit<Operation, 'ended'> {
    return { kind: 'read', region: this.mine, offset, bytes, remote: there(this.theirs, from) }
  }

  write(offset: number, bytes: number, to = 0): Omit<Operation, 'ended'> {
    return { kind: 'write', region: this.mine, offset, bytes, remote: there(this.theirs, to) }
  }

  async expectFreshChannelWorks(): Promise<void> {
    const { channel, other } = this.pair()
    const at = 1 + this.random.below(1_000)
    this.mine.memory.fill(0, 0, 10_000)
    expect(await outcomeOf(channel, this.read(7, 9_000, at))).toBe('well')
    expect(same(this.mine.memory.subarray(7, 9_007), this.theirs.memory.subarray(at, at + 9_000))).toBe(true)
    await Promise.all([channel.close(), other.close()])
  }
}
