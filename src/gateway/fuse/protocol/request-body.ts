/**
 * A cursor over the body of one request: what follows `fuse_in_header`. Positions are bytes from the start of the body. The
 * dispatcher (decode.ts) has checked that the fixed struct of the operation is there before a decoder runs, so fields of it
 * are read without further checks; what is of variable length is checked here, against the end of the request and not of
 * the memory, which holds other requests behind it.
 *
 * Nothing here throws. The first thing found wrong is kept in `fault`, reading goes on with harmless values, and the
 * dispatcher drops what was decoded. One body serves all requests of a decoder, so that decoding allocates only its result.
 */
import type { ByteString } from '../../../common/ids.ts'
import type { FileTime } from '../../../common/file-model.ts'
import { readId, readOffset, readSeconds } from './wire.ts'

const NOTHING = '' as ByteString
const SLASH = 0x2f

export class RequestBody {
  /** What is wrong with the request, if anything. */
  fault: string | undefined
  readonly #bytes: Buffer
  readonly #view: DataView
  #start = 0
  #end = 0
  /** Behind the last variable part that was read. */
  #next = 0

  constructor(bytes: Buffer, view: DataView) {
    this.#bytes = bytes
    this.#view = view
  }

  /** `fixedBytes` of the struct begin at `start` of the memory; names and data follow, up to `end`. */
  begin(start: number, end: number, fixedBytes: number): void {
    this.fault = undefined
    this.#start = start
    this.#end = end
    this.#next = start + fixedBytes
  }

  get sizeBytes(): number {
    return this.#end - this.#start
  }

  u32(at: number): number {
    return this.#view.getUint32(this.#start + at, true)
  }

  /** A field that older kernels do not send. */
  u32OrZero(at: number): number {
    return at + 4 <= this.sizeBytes ? this.u32(at) : 0
  }

  /** A node, handle or request id. */
  id(at: number): number {
    const id = readId(this.#view, this.#start + at)
    if (id === undefined) this.fault ??= 'an id that was never given out'
    return id ?? 0
  }

  offset(at: number): number {
    return readOffset(this.#view, this.#start + at)
  }

  lockOwner(at: number): bigint {
    return this.#view.getBigUint64(this.#start + at, true)
  }

  time(secondsAt: number, nanosecondsAt: number): FileTime {
    const nanoseconds = this.u32(nanosecondsAt)
    if (nanoseconds >= 1e9) this.fault ??= 'nanoseconds of a second or more'
    return { seconds: readSeconds(this.#view, this.#start + secondsAt), nanoseconds }
  }

  /** The next text, which ends with a NUL. */
  text(): ByteString {
    return this.#textUntilNul(false)
  }

  /** The next name of a directory entry. The kernel has cut paths at slashes and followed `.` and `..` itself. */
  name(): ByteString {
    const name = this.#textUntilNul(true)
    if (name === '' || name === '.' || name === '..') this.fault ??= 'not a name of a directory entry'
    return name
  }

  #textUntilNul(isName: boolean): ByteString {
    const start = this.#next
    const bytes = this.#bytes
    for (let at = start; at < this.#end; at++) {
      const byte = bytes[at]
      if (byte === 0) {
        this.#next = at + 1
        return bytes.toString('latin1', start, at) as ByteString
      }
      if (byte === SLASH && isName) this.fault ??= 'a slash in a name'
    }
    this.fault ??= 'a text without its NUL'
    return NOTHING
  }

  /** The rest, which must be `sizeBytes`: a view, not a copy. */
  data(sizeBytes: number): Uint8Array {
    const start = this.#next
    if (start + sizeBytes > this.#end) {
      this.fault ??= 'less data than it says'
      return this.#bytes.subarray(0, 0)
    }
    this.#next = start + sizeBytes
    return this.#bytes.subarray(start, this.#next)
  }

  /** After the last variable part: nothing may follow. */
  finish(): void {
    if (this.#next !== this.#end) this.fault ??= 'more data than it says'
  }
}
