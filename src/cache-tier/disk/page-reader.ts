/**
 * Owner of the threads that read cached blocks. They read by blocking calls straight into the slab and take the checksums on the way, so
 * a read costs the event loop two messages and no checksum, and takes no slot of libuv's pool, in which metadata commits.
 *
 * Short reads go by libuv all the same, few at a time: for them the messages would cost more than the checksum. Where zlib takes
 * the checksums (crc32.ts) long ones are split among the threads when all are idle: then that takes longer than reading what the
 * kernel has in memory. The native twin needs a quarter of that time, and a second thread would cost more than it saves.
 *
 * Each thread has at most `IN_HAND_MAX` reads, the rest waits in order of arrival, and is told `busy` after `WAIT_MS_MAX`: the
 * caller then goes to the next source. A read that a thread has in hand cannot be called back, since the kernel may still write
 * to its slot. A thread that dies has its reads told `busy`, and another is started.
 */
import { close, open, read } from 'node:fs'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import type { Clock } from '../../common/clock.ts'
import { crc32, nativePageReader, prepareCrc32 } from '../../common/crc32.ts'
import { workerEntry } from '../../common/worker-entry.ts'
import type { PageRead, PageReader } from '../ports.ts'
import type { PageReadAnswer, PageReadCommand, PageReaderThreadData } from './page-reader-thread.ts'

type Outcome = Awaited<ReturnType<PageReader['read']>>

const openFile = promisify(open)
const closeFile = promisify(close)

const SHORT_BYTES_MAX = 16 * 1024
const SHORT_IN_HAND_MAX = 3
const SPLIT_BYTES_MIN = 512 * 1024
const IN_HAND_MAX = 2
const WAIT_MS_MAX = 2000
const RESTART_DELAY_MS = 1000
/** From the worst: what a read is whose parts ended differently. */
const WORST_FIRST: readonly Outcome[] = ['failed', 'bad', 'busy', 'good']

interface Waiting {
  readonly want: PageRead
  readonly untilMs: number
  readonly resolve: (outcome: Outcome) => void
}

interface Thread {
  readonly worker: Worker
  readonly inHand: Map<number, (outcome: Outcome) => void>
  up: boolean
}

export interface PageReaderOptions {
  readonly slab: SharedArrayBuffer
  readonly clock: Clock
  readonly threads: number
}

export function createPageReaderThreads(options: PageReaderOptions): PageReader {
  return new PageReaderThreads(options)
}

class PageReaderThreads implements PageReader {
  readonly #options: PageReaderOptions
  readonly #threads = new Set<Thread>()
  readonly #waiting: Waiting[] = []
  readonly #waitingShort: Waiting[] = []
  #shortInHand = 0
  #nextTicket = 1
  #stopped = false
  #sweeping = false

  constructor(options: PageReaderOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    // Before the threads, which take what lies there when they begin.
    await prepareCrc32()
    await Promise.all(Array.from({ length: this.#options.threads }, () => this.#startThread()))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const { resolve } of [...this.#waiting.splice(0), ...this.#waitingShort.splice(0)]) resolve('busy')
    await Promise.all([...this.#threads].map(({ worker }) => worker.terminate()))
  }

  async open(path: string): Promise<number> {
    return await openFile(path, 'r')
  }

  async close(handle: number): Promise<void> {
    await closeFile(handle)
  }

  async read(want: PageRead): Promise<Outcome> {
    if (this.#stopped) return 'busy'
    if (want.length <= SHORT_BYTES_MAX) return await this.#wait(this.#waitingShort, want)
    if (!this.#isSplit(want)) return await this.#wait(this.#waiting, want)
    const outcomes = await Promise.all(split(want, this.#threads.size).map((part) => this.#wait(this.#waiting, part)))
    return WORST_FIRST.find((outcome) => outcomes.includes(outcome)) ?? 'busy'
  }

  #isSplit({ length }: PageRead): boolean {
    if (length < SPLIT_BYTES_MIN || nativePageReader()) return false
    return [...this.#threads].every(({ up, inHand }) => up && inHand.size === 0)
  }

  #wait(line: Waiting[], want: PageRead): Promise<Outcome> {
    return new Promise((resolve) => {
      line.push({ want, resolve, untilMs: this.#options.clock.monotonicMs() + WAIT_MS_MAX })
      this.#pump()
    })
  }

  #pump(): void {
    while (this.#waitingShort.length > 0 && this.#shortInHand < SHORT_IN_HAND_MAX) {
      const next = this.#waitingShort.shift()
      if (next) this.#readShort(next)
    }
    while (this.#waiting.length > 0) {
      const thread = [...this.#threads]
        .filter(({ up, inHand }) => up && inHand.size < IN_HAND_MAX)
        .toSorted((a, b) => a.inHand.size - b.inHand.size)[0]
      const next = thread && this.#waiting.shift()
      if (!thread || !next) break
      const ticket = this.#nextTicket++
      thread.inHand.set(ticket, next.resolve)
      thread.worker.ref()
      // A view would be sent with all of the buffer that it lies in.
      const pageCrcs = next.want.pageCrcs.slice()
      thread.worker.postMessage({ ...next.want, ticket, pageCrcs } satisfies PageReadCommand)
    }
    if (this.#waiting.length + this.#waitingShort.length > 0) this.#sweep()
  }

  #readShort({ want, resolve }: Waiting): void {
    this.#shortInHand++
    const into = Buffer.from(this.#options.slab, want.slabOffset, want.length)
    read(want.handle, into, 0, want.length, want.position, (error, bytesRead) => {
      this.#shortInHand--
      resolve(error ? 'failed' : bytesRead === want.length && checks(into, want) ? 'good' : 'bad')
      this.#pump()
    })
  }

  /** Sends away who has waited too long, as long as anybody waits. */
  #sweep(): void {
    if (this.#sweeping) return
    this.#sweeping = true
    void this.#options.clock.sleep(WAIT_MS_MAX / 4).then(() => {
      this.#sweeping = false
      const nowMs = this.#options.clock.monotonicMs()
      for (const line of [this.#waiting, this.#waitingShort]) {
        while (line[0] && line[0].untilMs <= nowMs) line.shift()?.resolve('busy')
      }
      this.#pump()
    })
  }

  /** Resolves when the thread is ready, or has died. */
  #startThread(): Promise<void> {
    const workerData: PageReaderThreadData = { slab: this.#options.slab }
    const worker = new Worker(workerEntry(import.meta.url, 'page-reader-thread'), {
      workerData,
      name: 'tidegate-disk-level',
    })
    const thread: Thread = { worker, inHand: new Map(), up: false }
    this.#threads.add(thread)
    return new Promise((resolve) => {
      worker.on('message', (answer: PageReadAnswer | 'ready') => {
        if (answer === 'ready') {
          thread.up = true
          worker.unref()
          resolve()
        } else {
          thread.inHand.get(answer.ticket)?.(answer.outcome)
          thread.inHand.delete(answer.ticket)
          if (thread.inHand.size === 0) worker.unref()
        }
        this.#pump()
      })
      // `exit` follows; it says all that is to be done.
      worker.on('error', () => undefined)
      worker.on('exit', () => {
        resolve()
        this.#ended(thread)
      })
    })
  }

  #ended(thread: Thread): void {
    this.#threads.delete(thread)
    for (const resolve of thread.inHand.values()) resolve('busy')
    thread.inHand.clear()
    if (this.#stopped) return
    void this.#options.clock.sleep(RESTART_DELAY_MS).then(() => (this.#stopped ? undefined : this.#startThread()))
  }
}

/** Into stretches of whole pages, as even as they get. */
function split(want: PageRead, parts: number): PageRead[] {
  const pagesAPart = Math.ceil(want.length / want.pageBytes / Math.max(1, parts))
  const partBytes = pagesAPart * want.pageBytes
  return Array.from({ length: Math.ceil(want.length / partBytes) }, (_, part) => ({
    ...want,
    position: want.position + part * partBytes,
    slabOffset: want.slabOffset + part * partBytes,
    length: Math.min(partBytes, want.length - part * partBytes),
    pageCrcs: want.pageCrcs.slice(part * pagesAPart, (part + 1) * pagesAPart),
  }))
}

function checks(bytes: Uint8Array, { pageBytes, pageCrcs }: PageRead): boolean {
  for (let page = 0; page * pageBytes < bytes.length; page++) {
    if (crc32(bytes.subarray(page * pageBytes, (page + 1) * pageBytes)) !== pageCrcs[page]) return false
  }
  return true
}
