/** What device.test.ts and the lifetime programs do with the other end (device-peer-process.ts). */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type {
  Channel,
  FabricFailure,
  FabricProvider,
  Operation,
  RemoteMemory,
} from '../../../../src/rdma/fabric/ports.ts'
import type { PeerFacts, PeerQuestion, PeerRegion } from './device-peer-process.ts'

/** In the guest with Soft-RoCE the same tests run by verbs. */
export const PROVIDER: FabricProvider = process.env['TIDEGATE_TEST_FABRIC'] === 'verbs' ? 'verbs' : 'tcp'
export const ADDRESS: string = process.env['TIDEGATE_TEST_FABRIC_ADDRESS'] ?? '127.0.0.1'

/** For what hangs; a guest without hardware virtualisation is slow. */
const PATIENCE_MS = 60_000

export class FabricPeer {
  readonly facts: PeerFacts
  readonly child: ChildProcess

  constructor(child: ChildProcess, facts: PeerFacts) {
    this.child = child
    this.facts = facts
  }

  static async start(): Promise<FabricPeer> {
    const child = fork(join(import.meta.dirname, 'device-peer-process.ts'), [PROVIDER, ADDRESS])
    return new FabricPeer(child, (await messageOf(child)) as PeerFacts)
  }

  /** Of a channel that the peer opens for whoever asks. */
  async open(): Promise<Uint8Array> {
    return Buffer.from((await this.#ask({ ask: 'open' })) as string, 'hex')
  }

  async look(where: 'readable' | 'writable', offset: number, bytes: number): Promise<Buffer> {
    return Buffer.from((await this.#ask({ ask: 'look', where, offset, bytes })) as string, 'hex')
  }

  remote(where: 'readable' | 'writable' | 'closed', offset = 0): RemoteMemory {
    return remoteOf(this.facts[where], offset)
  }

  /** Resolves when each of its threads has stopped, which is not at once. */
  async pause(): Promise<void> {
    this.child.kill('SIGSTOP')
    const tasks = `/proc/${this.child.pid}/task`
    const untilMs = performance.now() + PATIENCE_MS
    while (!readdirSync(tasks).every((task) => readFileSync(join(tasks, task, 'stat'), 'utf8').includes(') T '))) {
      if (performance.now() > untilMs) throw new Error(`${this.child.pid} does not stop`)
      await sleep(1)
    }
  }

  goOn(): void {
    this.child.kill('SIGCONT')
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const exit = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await exit
  }

  #ask(question: PeerQuestion): Promise<unknown> {
    const answer = messageOf(this.child)
    this.child.send(question)
    return answer
  }
}

async function messageOf(child: ChildProcess): Promise<unknown> {
  const [message] = (await once(child, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) })) as [unknown]
  return message
}

function remoteOf(region: PeerRegion, offset: number): RemoteMemory {
  return { key: BigInt(region.key), address: BigInt(region.address) + BigInt(offset) }
}

export interface Started {
  /** Settles when it has ended. */
  readonly ended: Promise<FabricFailure | undefined>
  hasEnded: boolean
}

/** One try. */
export function begin(channel: Channel, operation: Omit<Operation, 'ended'>): Started | 'later' {
  const { promise, resolve } = Promise.withResolvers<FabricFailure | undefined>()
  const started = { ended: promise, hasEnded: false }
  const taken = channel.start({
    ...operation,
    ended: (failure) => {
      started.hasEnded = true
      resolve(failure)
    },
  })
  return taken === 'later' ? 'later' : started
}

/** Until the provider takes it. */
export async function beginSoon(
  channel: Channel,
  operation: Omit<Operation, 'ended'>,
  patienceMs = PATIENCE_MS,
): Promise<Started | 'later'> {
  const untilMs = performance.now() + patienceMs
  for (;;) {
    const started = begin(channel, operation)
    channel.hurry(started === 'later')
    if (started !== 'later' || performance.now() > untilMs) return started
    await sleep(1)
  }
}

/** What became of it: `well`, the failure's kind, or that it did not end in the time. */
export async function outcomeOf(
  channel: Channel,
  operation: Omit<Operation, 'ended'>,
  patienceMs = PATIENCE_MS,
): Promise<string> {
  const started = await beginSoon(channel, operation, patienceMs)
  return started === 'later' ? 'later' : await settled(started, patienceMs)
}

export async function settled(started: Started, patienceMs = PATIENCE_MS): Promise<string> {
  const timer = new AbortController()
  const late = sleep(patienceMs, 'not ended' as const, { signal: timer.signal }).catch(() => 'not ended' as const)
  const outcome = await Promise.race([started.ended.then((failure) => failure?.kind ?? 'well'), late])
  timer.abort()
  return outcome
}
