/** A range of an open file as a stream, read in chunks when it is asked for, and no faster than `pace` lets it. */
import { Readable } from 'node:stream'
import type { OpenFile } from '../ports.ts'

const CHUNK_BYTES = 256 * 1024

export class FileSlice extends Readable {
  readonly #file: OpenFile
  readonly #pace: (bytes: number) => Promise<void>
  #position: number
  #left: number
  #reading: Promise<void> | undefined
  /** The file could not be read: nothing that another attempt would mend. */
  failure: Error | undefined

  constructor(
    file: OpenFile,
    range: { readonly offset: number; readonly bytes: number },
    pace: (bytes: number) => Promise<void>,
  ) {
    super({ highWaterMark: CHUNK_BYTES })
    this.#file = file
    this.#pace = pace
    this.#position = range.offset
    this.#left = range.bytes
    // Whoever sends it may be gone by the time that reading fails.
    this.on('error', () => undefined)
  }

  override _read(): void {
    if (this.#left === 0) return void this.push(null)
    this.#reading = this.#next().then(
      (chunk) => void this.push(chunk),
      (error: Error) => void this.destroy(error),
    )
  }

  async #next(): Promise<Buffer> {
    const bytes = Math.min(CHUNK_BYTES, this.#left)
    await this.#pace(bytes)
    const chunk = Buffer.allocUnsafeSlow(bytes)
    try {
      if ((await this.#file.read(chunk, this.#position)) !== bytes) throw new Error('it became shorter')
    } catch (error) {
      this.failure = error as Error
      throw error
    }
    this.#position += bytes
    this.#left -= bytes
    return chunk
  }

  /** Gives it up, if it is not over, and resolves when the file is not read any more. */
  async ended(): Promise<void> {
    this.destroy()
    await this.#reading
  }
}
