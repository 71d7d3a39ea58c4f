// needs: cc libfabric
/**
 * That what is lent is read without its owner: the owner's process is stopped at the moment between its lease and the read. By `verbs` the read ends all the same, with the right bytes; by
 * `tcp` it is the owner's own threads that send them, so it cannot end before they go on, which shows that this test can fail.
 *
 * TIDEGATE_TEST_FABRIC (`tcp`, `verbs`) and TIDEGATE_TEST_FABRIC_ADDRESS say by what.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openFabricDevice } from '../../src/rdma/fabric/device.ts'
import type { FabricTransport } from '../../src/rdma/fabric/fabric-transport.ts'
import type { FabricDevice } from '../../src/rdma/fabric/ports.ts'
import { FabricNodes, testFabric } from '../support/fabric-nodes.ts'
import { BLOCK_BYTES, fillBlock, OWNER, PATIENT, READER } from './one-sided-owner-process.ts'

const isOneSided = testFabric.provider === 'verbs'
/** For what hangs; an emulated processor is slow. */
const PATIENCE_MS = 60_000
/** What two processors that are at leisure do a thousand times over. */
const LONG_ENOUGH_MS = 2_000

let nodes: FabricNodes
let reader: FabricTransport
let owner: ChildProcess
/** Called with the next read of a whole block, before anything of it has happened. */
let beforeRead: (() => void) | undefined

beforeEach(async () => {
  beforeRead = undefined
  const { device, reason } = await openFabricDevice(testFabric)
  if (device === undefined) throw new Error(reason)
  nodes = new FabricNodes()
  reader = nodes.make(READER, watched(device), { fabric: PATIENT })
  await reader.start()
  owner = fork(join(import.meta.dirname, 'one-sided-owner-process.ts'), [reader.address])
  nodes.tcp.tell(OWNER, await addressOf(owner))
  await nodes.ready()
})

afterEach(async () => {
  if (owner.exitCode === null && owner.signalCode === null) {
    const exit = once(owner, 'exit')
    owner.kill('SIGKILL')
    await exit
  }
  await nodes.stop()
})

/** @throws how it ended instead of saying so, or that it does neither */
async function addressOf(child: ChildProcess): Promise<string> {
  const over = AbortSignal.timeout(PATIENCE_MS)
  const said = once(child, 'message', { signal: over }).then(([address]) => String(address))
  const ended = once(child, 'exit', { signal: over }).then(([code, signal]) => {
    throw new Error(`the owner ended with ${code ?? signal}`)
  })
  ended.catch(() => undefined)
  said.catch(() => undefined)
  return await Promise.race([said, ended])
}

/** The same device, whose channels say when they are about to read a block. */
function watched(device: FabricDevice): FabricDevice {
  const open = device.open.bind(device)
  device.open = () => {
    const channel = open()
    const start = channel.start.bind(channel)
    channel.start = (operation) => {
      if (operation.kind === 'read' && operation.bytes === BLOCK_BYTES) {
        beforeRead?.()
        beforeRead = undefined
      }
      return start(operation)
    }
    return channel
  }
  return device
}

/** Returns when each of its threads has stopped, which is not at once. Until then this thread does nothing else, so no word of the owner's comes between. */
function stopOwner(): void {
  owner.kill('SIGSTOP')
  const untilMs = performance.now() + PATIENCE_MS
  while (!isStopped()) if (performance.now() > untilMs) throw new Error('the owner does not stop')
}

function isStopped(): boolean {
  const tasks = `/proc/${owner.pid}/task`
  return readdirSync(tasks).every((task) => readFileSync(join(tasks, task, 'stat'), 'utf8').includes(') T '))
}

function readBlock(block: number): { readonly into: Uint8Array; readonly body: Promise<Uint8Array> } {
  const into = nodes.memory(READER, BLOCK_BYTES).fill(0xa5)
  const call = { method: 'block', head: Uint8Array.of(block) } as const
  return { into, body: reader.call(OWNER, call, { timeoutMs: PATIENCE_MS * 2, into }).then((reply) => reply.body) }
}

function expectBlock(block: number, body: Uint8Array): void {
  const expected = new Uint8Array(BLOCK_BYTES)
  fillBlock(block, expected)
  expect(Buffer.compare(body, expected)).toBe(0)
}

describe(`a leased read by ${testFabric.provider} of a node that has stopped`, () => {
  it(isOneSided ? 'ends while it stands still' : 'does not end before it goes on', async () => {
    expectBlock(1, await readBlock(1).body)
    let stops = 0
    beforeRead = () => {
      stopOwner()
      stops++
    }
    const { into, body } = readBlock(2)
    if (!isOneSided) {
      const early = await Promise.race([body.then(() => 'ended'), waitUntilStopped(() => stops)])
      expect(early).toBe('not ended')
      expect(isStopped()).toBe(true)
      owner.kill('SIGCONT')
    }
    expectBlock(2, await body)
    expect(stops).toBe(1)
    expect(isStopped()).toBe(isOneSided)
    expect(into).toEqual(await body)
    // By the fabric, and not with the connection's bytes.
    expect(reader.figures.peers).toMatchObject([{ node: OWNER, fabric: { reads: 2, fallbacks: 0 } }])
    owner.kill('SIGCONT')
    expectBlock(3, await readBlock(3).body)
  })
})

async function waitUntilStopped(stops: () => number): Promise<string> {
  const untilMs = performance.now() + PATIENCE_MS
  while (stops() === 0 && performance.now() < untilMs) await sleep(1)
  await sleep(LONG_ENOUGH_MS)
  return 'not ended'
}
