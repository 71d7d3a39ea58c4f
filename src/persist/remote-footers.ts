/**
 * Footers of segments in the remote store, for whoever has no metadata that says what lies in them: which bodies, where, and what they were
 * meant for. One request for a small footer, two for a large one.
 */
import { crc32 } from '../common/crc32.ts'
import { isSegmentId, type SegmentId } from '../common/ids.ts'
import { isTidegateError } from '../common/errors.ts'
import type { StoredRun } from '../common/model.ts'
import { decodeFooter, readTrailer, TRAILER_BYTES, type Footer } from './journal/format.ts'
import { listAll } from './remote/list-all.ts'
import { segmentObjectName, type RemoteStore } from './remote/ports.ts'

const SEGMENTS_PREFIX = 'segments/'
const TAIL_BYTES = 64 * 1024
const KEPT_FOOTERS_MAX = 16
const VERIFY_BYTES = 8 * 1024 * 1024

export class RemoteFooters {
  readonly #remote: RemoteStore
  /** Every segment that is there, and the bytes of its object. */
  readonly segments: ReadonlyMap<SegmentId, number>
  readonly #kept = new Map<SegmentId, Footer | undefined>()

  private constructor(remote: RemoteStore, segments: ReadonlyMap<SegmentId, number>) {
    this.#remote = remote
    this.segments = segments
  }

  static async open(remote: RemoteStore): Promise<RemoteFooters> {
    const segments = new Map<SegmentId, number>()
    for await (const { name, bytes } of listAll(remote, SEGMENTS_PREFIX)) {
      const id = name.slice(-36, -4)
      if (isSegmentId(id) && name === segmentObjectName(id)) segments.set(id, bytes)
    }
    return new RemoteFooters(remote, segments)
  }

  /** Undefined when the segment is not there, or has none that checks. @throws Unavailable */
  async footer(segment: SegmentId): Promise<Footer | undefined> {
    if (this.#kept.has(segment)) return this.#kept.get(segment)
    const footer = await this.#read(segment)
    this.#kept.set(segment, footer)
    if (this.#kept.size > KEPT_FOOTERS_MAX) this.#kept.delete(this.#kept.keys().next().value as SegmentId)
    return footer
  }

  async #read(segment: SegmentId): Promise<Footer | undefined> {
    const fileBytes = this.segments.get(segment) ?? 0
    if (fileBytes < TRAILER_BYTES) return undefined
    const tail = await this.#range(segment, Math.max(0, fileBytes - TAIL_BYTES), Math.min(fileBytes, TAIL_BYTES))
    const described = tail && readTrailer(segment, tail.subarray(-TRAILER_BYTES), fileBytes)
    if (!described) return undefined
    const bytes = described.footerBytes + TRAILER_BYTES
    const whole = bytes <= tail.length ? tail.subarray(-bytes) : await this.#range(segment, described.dataBytes, bytes)
    return whole && decodeFooter(segment, whole)
  }

  async #range(segment: SegmentId, offset: number, length: number): Promise<Buffer | undefined> {
    const bytes = Buffer.allocUnsafe(length)
    try {
      const got = await this.#remote.read(segmentObjectName(segment), offset, [bytes])
      return got === length ? bytes : undefined
    } catch (error) {
      if (isTidegateError(error, 'NoSuchKey')) return undefined
      throw error
    }
  }

  /** The body that these bytes are of, and where in it they begin. */
  async runAt(
    segment: SegmentId,
    offset: number,
    length: number,
  ): Promise<{ run: StoredRun; runOffset: number } | undefined> {
    const footer = await this.footer(segment)
    const body = footer?.bodies.find((one) => one.offset <= offset && offset + length <= one.offset + one.length)
    if (!body) return undefined
    const run = { content: body.content, segment, segmentOffset: body.offset, length: body.length }
    return { run, runOffset: offset - body.offset }
  }

  /** Reads all of a segment. @returns the byte ranges that are not what the footer says; undefined when there is no footer */
  async damage(segment: SegmentId): Promise<{ from: number; to: number }[] | undefined> {
    const footer = await this.footer(segment)
    if (!footer) return undefined
    const { dataBytes, pageBytes, pageCrcs } = footer
    const chunkBytes = Math.max(1, Math.floor(VERIFY_BYTES / pageBytes)) * pageBytes
    const damaged: { from: number; to: number }[] = []
    for (let at = 0; at < dataBytes; at += chunkBytes) {
      const length = Math.min(chunkBytes, dataBytes - at)
      const bytes = await this.#range(segment, at, length)
      for (let page = 0; page < length; page += pageBytes) {
        const end = Math.min(page + pageBytes, length)
        const isIntact = bytes && crc32(bytes.subarray(page, end)) === pageCrcs[(at + page) / pageBytes]
        if (!isIntact) damaged.push({ from: at + page, to: at + end })
      }
    }
    return damaged
  }
}
