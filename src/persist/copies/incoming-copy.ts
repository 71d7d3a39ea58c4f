/**
 * One copy that is being written here. Its bytes are checked as they arrive, and what they make of each page is kept, so that blocks of it can be read
 * and checked while it has no footer (C14).
 */
import { crc32 } from '../../common/crc32.ts'
import { TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { DeviceResult, JournalDevice } from '../journal/device.ts'
import type { CopyName } from './messages.ts'

export class IncomingCopy {
  readonly segment: SegmentId
  readonly mode: CopyName['mode']
  /** Node that writes it. */
  readonly from: number
  /** Of that node, when it began. */
  readonly incarnation: string
  readonly path: string
  readonly #device: JournalDevice
  readonly #pageBytes: number
  readonly #pageCrcs: number[] = []
  #tail = 0
  #writtenTo = 0
  #failure: DeviceResult['error']
  #closed = false
  #turns: (() => void)[] = []
  usedMs = 0

  constructor(
    parts: { readonly device: JournalDevice; readonly pageBytes: number },
    name: CopyName & { readonly from: number; readonly incarnation: string; readonly path: string },
  ) {
    this.#device = parts.device
    this.#pageBytes = parts.pageBytes
    this.segment = name.segment
    this.mode = name.mode
    this.from = name.from
    this.incarnation = name.incarnation
    this.path = name.path
  }

  get bytes(): number {
    return this.#writtenTo
  }

  get isClosed(): boolean {
    return this.#closed
  }

  async create(directory: string): Promise<void> {
    const { segment, path } = this
    const results = await this.#device.submit([{ kind: 'create', segment, path, directory }])
    this.#collect(results)
  }

  /** Resolves when the kernel has them or, with `sync`, when they and all before them are durable. @throws Unavailable, StorageFull, InvalidRequest */
  async write(position: number, bytes: Uint8Array, options: { sync: boolean; signal: AbortSignal }): Promise<void> {
    await this.#turn(position, options.signal)
    const { segment } = this
    // From here to `submit` nothing is awaited: the next write may follow at once, and the device keeps the order.
    this.#tail += bytes.length
    this.#count(position, bytes)
    const submitted = this.#device.submit([
      ...(bytes.length > 0 ? [{ kind: 'append', segment, position, bytes: own(bytes) } as const] : []),
      ...(options.sync ? [{ kind: 'sync', segment } as const] : []),
    ])
    this.#nextTurn()
    this.#collect(await submitted)
    this.#writtenTo = Math.max(this.#writtenTo, position + bytes.length)
  }

  /** Durable, and the file is closed. */
  async seal(position: number, footer: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#turn(position, signal)
    this.#closed = true
    this.#nextTurn()
    const { segment } = this
    const results = await this.#device.submit([
      { kind: 'append', segment, position, bytes: own(footer) },
      { kind: 'sync', segment },
      { kind: 'close', segment },
    ])
    this.#collect(results)
  }

  /** What is there stays. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#nextTurn()
    await this.#device.submit([{ kind: 'close', segment: this.segment }])
  }

  /** What is known of a block: how far it can be read, and its pages' checksums. Undefined where nothing can be vouched for. */
  block(block: number, blockBytes: number): { length: number; crcs: number[] } | undefined {
    const start = block * blockBytes
    // The last page is known as it will be once all that was taken is written, so only then.
    const whole = this.#writtenTo - (this.#writtenTo % this.#pageBytes)
    const end = Math.min(start + blockBytes, this.#writtenTo === this.#tail ? this.#tail : whole)
    if (end <= start) return undefined
    const firstPage = start / this.#pageBytes
    return { length: end - start, crcs: this.#pageCrcs.slice(firstPage, Math.ceil(end / this.#pageBytes)) }
  }

  async #turn(position: number, signal: AbortSignal): Promise<void> {
    while (!this.#closed && !this.#failure && position > this.#tail && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          signal.removeEventListener('abort', done)
          resolve()
        }
        signal.addEventListener('abort', done, { once: true })
        this.#turns.push(done)
      })
    }
    this.#throwIfFailed()
    if (this.#closed) throw new TidegateError('Unavailable', `the copy of segment ${this.segment} is closed`)
    if (position === this.#tail) return
    const message = `segment ${this.segment} is copied up to ${this.#tail}, not to ${position}`
    throw new TidegateError('InvalidRequest', message)
  }

  #nextTurn(): void {
    for (const turn of this.#turns.splice(0)) turn()
  }

  #count(position: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const page = Math.floor((position + done) / this.#pageBytes)
      const within = (position + done) % this.#pageBytes
      const part = bytes.subarray(done, done + this.#pageBytes - within)
      this.#pageCrcs[page] = crc32(part, within === 0 ? 0 : this.#pageCrcs[page])
      done += part.length
    }
  }

  #collect(results: readonly DeviceResult[]): void {
    for (const { error } of results) this.#failure ??= error
    if (this.#failure) this.#nextTurn()
    this.#throwIfFailed()
  }

  #throwIfFailed(): void {
    if (!this.#failure) return
    const { code, message } = this.#failure
    throw new TidegateError(code === 'ENOSPC' ? 'StorageFull' : 'Unavailable', `cannot write a copy: ${message}`, {
      details: { errno: code },
    })
  }
}

/** The journal's thread is sent the whole buffer that bytes lie in. */
function own(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : Uint8Array.prototype.slice.call(bytes)
}
