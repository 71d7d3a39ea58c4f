/**
 * Ranges of local files as bodies of requests. Two twins: `InlineFileSender` reads them through the FileSystem port in the caller's thread;
 * `createThreadFileSender` (thread-file-sender.ts) leaves reading, digests and the connections to a thread of its own, so that not one
 * byte of an upload passes the engine's event loop, which answers those who write meanwhile.
 *
 * Decisions stay where they are: what is sent, signed, repeated, paced and given up is the caller's (s3-upload.ts, s3-calls.ts).
 */
import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import { crc32 } from 'node:zlib'
import type { OpenFile } from '../ports.ts'
import { FileSlice } from './file-slice.ts'

export type DigestKind = 'crc32' | 'md5'

/** A range of a file that is open, and so stays what it is until it is closed. */
export interface FileRange {
  readonly file: OpenFile
  /** The same file. */
  readonly path: string
  readonly offset: number
  readonly bytes: number
}

export interface BodyControl {
  /** Resolves when so many bytes more may move; undefined where there is no rate. */
  readonly pace: ((bytes: number) => Promise<void>) | undefined
  /** Bytes moved. */
  readonly progress: () => void
}

/** What is given to the SDK as Body. */
export interface FileBody extends Readable {
  /** The file could not be read: nothing that another attempt would mend. */
  readonly failure: Error | undefined
  /** Gives it up, if it is not over, and resolves when nothing of it is under way any more: neither reading nor sending. */
  ended(): Promise<void>
}

export interface FileSender {
  /** In base64, of the digest in big-endian order. Rejects when the file cannot be read. */
  digest(range: FileRange, kind: DigestKind): Promise<string>
  body(range: FileRange, control: BodyControl): FileBody
  stop(): Promise<void>
}

const DIGEST_CHUNK_BYTES = 2 ** 20

export class InlineFileSender implements FileSender {
  async digest({ file, offset, bytes }: FileRange, kind: DigestKind): Promise<string> {
    const digest = new RangeDigest(kind)
    const chunk = Buffer.allocUnsafe(Math.min(bytes, DIGEST_CHUNK_BYTES))
    for (let done = 0; done < bytes;) {
      const piece = chunk.subarray(0, Math.min(chunk.length, bytes - done))
      if ((await file.read(piece, offset + done)) !== piece.length) throw new Error('it became shorter')
      digest.update(piece)
      done += piece.length
    }
    return digest.text()
  }

  body({ file, offset, bytes }: FileRange, { pace, progress }: BodyControl): FileBody {
    return new FileSlice(file, { offset, bytes }, async (chunkBytes) => {
      await pace?.(chunkBytes)
      progress()
    })
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }
}

export class RangeDigest {
  readonly #md5
  #crc = 0

  constructor(kind: DigestKind) {
    this.#md5 = kind === 'md5' ? createHash('md5') : undefined
  }

  update(bytes: Uint8Array): void {
    if (this.#md5) this.#md5.update(bytes)
    else this.#crc = crc32(bytes, this.#crc)
  }

  text(): string {
    return this.#md5 ? this.#md5.digest('base64') : crc32Text(this.#crc)
  }
}

export function crc32Text(crc: number): string {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(crc)
  return bytes.toString('base64')
}
