/**
 * Writes a base, one part a step: all rows, page by page, while writers go on (chain.ts says why that is enough). A part that did not
 * arrive is sent again under its name. A base that is not finished when the gateway ends is begun anew, and what there was of it removed.
 */
import type { Clock } from '../../common/clock.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import { Turns } from '../../common/turns.ts'
import { encodePart, PartPayload, type Capture, type EncodedObject } from './encode-parts.ts'
import { encodeBaseEnd, encodeNamesObject, namesObjectCrc, type BasePart } from './format.ts'
import { namesObjectName } from './object-names.ts'
import type { NamesSource } from './ports.ts'
import type { RemoteNames } from './remote-names.ts'

const PAGE_BYTES = 128 * 1024

export interface BaseWriterParts {
  readonly source: NamesSource
  readonly remote: RemoteNames
  readonly clock: Clock
}

export class BaseWriter {
  readonly begin: Revision
  readonly random: string
  readonly #parts: BaseWriterParts
  readonly #capture: Capture
  readonly #written: BasePart[] = []
  #unsent: EncodedObject | undefined
  #after: ByteString | undefined
  #readAll = false
  #end: Revision
  #rows = 0

  constructor(parts: BaseWriterParts, capture: Capture) {
    this.#parts = parts
    this.#capture = capture
    this.random = capture.random
    this.begin = parts.source.durableRevision()
    this.#end = this.begin
  }

  get bytesWritten(): number {
    return this.#written.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  /** @returns whether the base is complete */
  async step(): Promise<boolean> {
    if (!this.#readAll || this.#unsent) {
      this.#unsent ??= await this.#nextPart()
      await this.#parts.remote.put(this.#unsent)
      this.#written.push({ crc: namesObjectCrc(this.#unsent.bytes), bytes: this.#unsent.bytes.length })
      this.#unsent = undefined
      return false
    }
    const { lineage, random, capturedMs } = this.#capture
    const parts = this.#written.length
    const range = { from: this.begin, through: this.#end }
    const head = {
      kind: 'base-whole',
      lineage,
      ...range,
      capturedMs,
      part: 0,
      parts,
      rows: this.#rows,
      random,
    } as const
    const name = { kind: 'base-whole', begin: this.begin, end: this.#end, random, parts } as const
    const bytes = await encodeNamesObject(head, encodeBaseEnd(this.#written))
    await this.#parts.remote.put({ name: namesObjectName(lineage, name), bytes })
    return true
  }

  async #nextPart(): Promise<EncodedObject> {
    const { source, clock } = this.#parts
    const payload = new PartPayload()
    const turns = new Turns(clock)
    while (!this.#readAll && !payload.full) {
      const page = await source.basePage(this.#after, PAGE_BYTES)
      payload.add(page.rows)
      this.#end = Math.max(this.#end, page.revision)
      this.#after = page.next
      this.#readAll = page.next === undefined
      await turns.pass()
    }
    this.#rows += payload.rows
    const name = { kind: 'base-part', begin: this.begin, random: this.random, part: this.#written.length } as const
    return encodePart(name, payload, { ...this.#capture, pageRevision: this.#end })
  }
}
