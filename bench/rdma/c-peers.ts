/** Two processes of peer.c, one of which reads the other's memory: what libfabric gives a C program. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { whenEnding } from '../ending.ts'

const SOURCE = fileURLToPath(new URL('peer.c', import.meta.url))
/** Also what the addon sets: without them the library opens devices that are not there, and queues for 256 peers. */
const ENVIRONMENT = { FI_PROVIDER: '^psm,psm2,psm3', FI_UNIVERSE_SIZE: '16' }
const LINE_MS_MAX = 30_000

/** How completions are looked for, who makes progress, and which locks there are: see peer.c. */
export const VARIANTS = [
  ['spin', 'manual', 'domain'],
  ['fd', 'manual', 'domain'],
  ['sread', 'manual', 'domain'],
  ['thread', 'manual', 'safe'],
  ['spin', 'auto', 'safe'],
] as const
export type Variant = (typeof VARIANTS)[number]

export interface Reads {
  readonly perSecond: number
  /** CPU seconds of each GiB. */
  readonly readerCpu: number
  readonly ownerCpu: number
}

/** @throws what the compiler says */
export async function compilePeer(directory: string): Promise<string> {
  const program = `${directory}/peer`
  await promisify(execFile)('cc', ['-O2', '-o', program, SOURCE, '-lfabric', '-lpthread'])
  return program
}

class Peer {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #done: () => void

  constructor(program: string, words: readonly string[]) {
    const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'ignore'], env: { ...process.env, ...ENVIRONMENT } })
    this.#child = child
    if (child.stdout === null) throw new Error('a peer without an output')
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]()
    this.#done = whenEnding(() => void child.kill('SIGKILL'))
  }

  say(line: string): void {
    this.#child.stdin?.write(`${line}\n`)
  }

  async line(): Promise<string> {
    const late = setTimeout(() => this.#child.kill('SIGKILL'), LINE_MS_MAX)
    const { value, done } = await this.#lines.next()
    clearTimeout(late)
    if (done === true) throw new Error('a peer has ended')
    return value
  }

  async end(): Promise<void> {
    const ended = once(this.#child, 'exit')
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL')
      await ended
    }
    this.#done()
  }
}

export class CPeers {
  readonly #owner: Peer
  readonly #reader: Peer

  private constructor(owner: Peer, reader: Peer) {
    this.#owner = owner
    this.#reader = reader
  }

  static async start(program: string, [wait, progress, threading]: Variant): Promise<CPeers> {
    const words = ['tcp;ofi_rxm', '127.0.0.1', wait, progress, threading]
    const peers = new CPeers(new Peer(program, ['serve', ...words]), new Peer(program, ['read', ...words]))
    try {
      const [owner, reader] = [await peers.#owner.line(), await peers.#reader.line()]
      peers.#owner.say(reader)
      peers.#reader.say(owner)
      return peers
    } catch (error) {
      await peers.end()
      throw error
    }
  }

  async reads(bytes: number, inFlight: number, milliseconds: number): Promise<Reads> {
    this.#owner.say('begin')
    this.#reader.say(`${bytes} ${inFlight} ${milliseconds}`)
    const [reads = 0, took = 0, cpu = 0] = (await this.#reader.line()).split(' ').map(Number)
    this.#owner.say('end')
    const ownerCpu = Number(await this.#owner.line())
    const gib = (reads * bytes) / 2 ** 30
    return { perSecond: reads / (took / 1e9), readerCpu: cpu / 1e9 / gib, ownerCpu: ownerCpu / 1e9 / gib }
  }

  async end(): Promise<void> {
    await Promise.all([this.#owner.end(), this.#reader.end()])
  }
}
