/** Rows on their way into objects: encoded a slice at a time, so that others get their turns, and gathered into parts. */
import type { Clock } from '../../common/clock.ts'
import type { Revision } from '../../common/ids.ts'
import { Turns } from '../../common/turns.ts'
import { PART_BYTES_MAX, encodeNamesObject, encodeRows, encodedRowBytesMax, type NamesHead } from './format.ts'
import { namesObjectName, type Lineage, type NamesObjectName } from './object-names.ts'
import type { NameRow, NamesDelta } from './ports.ts'

export interface EncodedObject {
  readonly name: string
  readonly bytes: Buffer
}

const SLICE_BYTES = 128 * 1024
const SLICE_ROWS = 512

/** Rows of one part, as they come. */
export class PartPayload {
  readonly #slices: Buffer[] = []
  bytes = 0
  rows = 0

  add(rows: readonly NameRow[]): void {
    if (rows.length === 0) return
    const slice = encodeRows(rows)
    this.#slices.push(slice)
    this.bytes += slice.length
    this.rows += rows.length
  }

  get full(): boolean {
    return this.bytes >= PART_BYTES_MAX - SLICE_BYTES
  }

  whole(): Buffer {
    return Buffer.concat(this.#slices)
  }
}

export function* slices(rows: readonly NameRow[]): Generator<readonly NameRow[]> {
  let from = 0
  let bytes = 0
  for (let at = 0; at < rows.length; at++) {
    const row = rows[at]
    if (row) bytes += encodedRowBytesMax(row)
    if (bytes < SLICE_BYTES && at + 1 - from < SLICE_ROWS) continue
    yield rows.slice(from, at + 1)
    from = at + 1
    bytes = 0
  }
  if (from < rows.length) yield rows.slice(from)
}

export interface Capture {
  readonly lineage: Lineage
  readonly random: string
  readonly capturedMs: number
}

/** A delta as the objects it becomes; one without rows is one object. */
export async function encodeDelta(delta: NamesDelta, capture: Capture, clock: Clock): Promise<EncodedObject[]> {
  const payloads = [new PartPayload()]
  const turns = new Turns(clock)
  for (const slice of slices(delta.rows)) {
    if (payloads.at(-1)?.full) payloads.push(new PartPayload())
    payloads.at(-1)?.add(slice)
    await turns.pass()
  }
  const { after, through } = delta
  const objects: EncodedObject[] = []
  for (const [part, payload] of payloads.entries()) {
    const name = { kind: 'delta', after, through, random: capture.random, part, parts: payloads.length } as const
    objects.push(await encodePart(name, payload, capture))
    await turns.pass()
  }
  return objects
}

/** `pageRevision`: of a part of a base, at which its rows were read. */
export async function encodePart(
  name: Extract<NamesObjectName, { kind: 'delta' | 'base-part' }>,
  payload: PartPayload,
  capture: Capture & { readonly pageRevision?: Revision },
): Promise<EncodedObject> {
  const { lineage, random, capturedMs } = capture
  const range =
    name.kind === 'delta'
      ? { from: name.after, through: name.through, parts: name.parts }
      : { from: name.begin, through: capture.pageRevision ?? name.begin, parts: 0 }
  const head: NamesHead = {
    kind: name.kind,
    lineage,
    ...range,
    capturedMs,
    part: name.part,
    rows: payload.rows,
    random,
  }
  return { name: namesObjectName(lineage, name), bytes: await encodeNamesObject(head, payload.whole()) }
}
