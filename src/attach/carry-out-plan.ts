/**
 * How a body goes up, decided from where its bytes lie; no I/O.
 *
 * What came as one PUT goes as one PUT and what was completed from parts goes in the same parts, so that the ETag stays. What the mount wrote has
 * no ETag to keep: a small file goes whole; of a large one the parts that still lie in an external object are copied over there (UploadPartCopy),
 * and only the rest is sent.
 *
 *   offset      0            6 MiB   7 MiB                     200 MiB
 *   lies in     external A   here    external A                end
 *   pieces      copy         bytes   bytes (A's next 4 MiB)    ...copy
 *
 * Parts have a least size (5 MiB for S3), so a short range of ours is sent with the head of the copy that follows it, and copies that are too short to
 * be parts are sent as bytes.
 */
import { assert } from '../common/assert.ts'
import { isExternalSegment, type ExternalBody } from '../common/external.ts'
import type { SegmentId } from '../common/ids.ts'
import type { Extent } from '../common/model.ts'

const MIB = 1024 * 1024

export interface PlanLimits {
  /** The largest that one PUT, one part or one copied part may be. */
  readonly putBytesMax: number
  /** Of every part but the last. */
  readonly partBytesMin: number
  readonly partsMax: number
  /** Parts of what has no parts of its own. */
  readonly partBytes: number
  /** Files up to this go up in one PUT, wherever their bytes lie. */
  readonly wholeBytesMax: number
}

export const PLAN_LIMITS: PlanLimits = {
  putBytesMax: 5 * 1024 * MIB,
  partBytesMin: 5 * MIB,
  partsMax: 10_000,
  partBytes: 16 * MIB,
  wholeBytesMax: 16 * MIB,
}

export type PlannedPiece =
  | { readonly kind: 'bytes'; readonly offset: number; readonly length: number }
  | {
      readonly kind: 'copy'
      readonly from: ExternalBody
      readonly sourceOffset: number
      readonly offset: number
      readonly length: number
    }

export type Plan =
  | { readonly kind: 'put' }
  | { readonly kind: 'copy'; readonly from: ExternalBody }
  | { readonly kind: 'parts'; readonly pieces: readonly PlannedPiece[] }

export interface Planned {
  readonly size: number
  readonly etag: string
  readonly extents: readonly Extent[]
  readonly partSizes: readonly number[]
  /** External objects that extents lie in. */
  readonly sources: ReadonlyMap<SegmentId, ExternalBody>
  /** A write in parts can be made conditional: else one PUT is preferred, since "never overwrite" weighs more than traffic and ETags. */
  readonly partsAreSafe: boolean
}

/** A range that lies in one external object, in one piece there. */
interface Run {
  readonly from: number
  readonly to: number
  readonly source: ExternalBody
  /** Where offset 0 would lie in it. */
  readonly shift: number
}

const MD5 = /^[0-9a-f]{32}$/

export function planBody(planned: Planned, limits: PlanLimits): Plan {
  const { size, partSizes, partsAreSafe } = planned
  const fitsPut = size <= limits.putBytesMax
  if (size === 0 || (fitsPut && !partsAreSafe)) return { kind: 'put' }
  const runs = runsOf(planned)
  if (partSizes.length > 0 && areParts(partSizes, size, limits)) {
    return { kind: 'parts', pieces: sameParts(partSizes, runs) }
  }
  const [only] = runs
  if (only && only.from === 0 && only.to === size && only.shift === 0 && only.source.size === size) {
    return { kind: 'copy', from: only.source }
  }
  if (fitsPut && (MD5.test(planned.etag) || size <= limits.wholeBytesMax)) return { kind: 'put' }
  return { kind: 'parts', pieces: alternating(runs, size, limits) }
}

function areParts(partSizes: readonly number[], size: number, limits: PlanLimits): boolean {
  const sum = partSizes.reduce((total, bytes) => total + bytes, 0)
  return (
    sum === size &&
    partSizes.length <= limits.partsMax &&
    partSizes.every((bytes, at) => bytes <= limits.putBytesMax && (bytes >= limits.partBytesMin || isLast(at)))
  )

  function isLast(at: number): boolean {
    return at === partSizes.length - 1
  }
}

function sameParts(partSizes: readonly number[], runs: readonly Run[]): PlannedPiece[] {
  let offset = 0
  return partSizes.map((length) => {
    const from = offset
    offset += length
    const run =
      length > 0 ? runs.find((candidate) => candidate.from <= from && from + length <= candidate.to) : undefined
    return run ? copied(run, from, length) : { kind: 'bytes', offset: from, length }
  })
}

function runsOf({ extents, sources }: Planned): Run[] {
  const runs: Run[] = []
  for (const { offset, length, segment, segmentOffset } of extents) {
    const source = isExternalSegment(segment) ? sources.get(segment) : undefined
    if (!source) continue
    const shift = segmentOffset - offset
    const last = runs.at(-1)
    if (last && last.to === offset && last.source === source && last.shift === shift) {
      runs[runs.length - 1] = { ...last, to: offset + length }
    } else runs.push({ from: offset, to: offset + length, source, shift })
  }
  return runs
}

function alternating(runs: readonly Run[], size: number, limits: PlanLimits): PlannedPiece[] {
  // Bytes alone would be a quarter of the parts that there may be; longer and longer copies are left out until the rest suffices.
  const partBytes = Math.max(limits.partBytes, Math.ceil(size / Math.floor(limits.partsMax / 4)))
  for (let copyBytesMin = limits.partBytesMin; ; copyBytesMin *= 2) {
    const pieces = piecesOf(runs, size, { ...limits, partBytes, copyBytesMin })
    if (pieces.length <= limits.partsMax) return pieces
    assert(copyBytesMin <= size, 'a body of bytes alone has few enough parts')
  }
}

function piecesOf(
  runs: readonly Run[],
  size: number,
  { partBytes, partBytesMin, putBytesMax, copyBytesMin }: PlanLimits & { readonly copyBytesMin: number },
): PlannedPiece[] {
  const pieces: PlannedPiece[] = []
  let position = 0
  for (const run of runs) {
    const gap = run.from - position
    const from = gap > 0 && gap < partBytesMin ? position + partBytesMin : run.from
    if (run.to - from < copyBytesMin) continue
    pieces.push(...inPieces(position, from, partBytes).map(([offset, length]) => bytesOf(offset, length)))
    pieces.push(...inPieces(from, run.to, putBytesMax).map(([offset, length]) => copied(run, offset, length)))
    position = run.to
  }
  pieces.push(...inPieces(position, size, partBytes).map(([offset, length]) => bytesOf(offset, length)))
  return pieces
}

/** All of an external object, in parts that are copied. */
export function copiesOf(from: ExternalBody, { putBytesMax }: PlanLimits): readonly PlannedPiece[] {
  const run: Run = { from: 0, to: from.size, source: from, shift: 0 }
  return inPieces(0, from.size, putBytesMax).map(([offset, length]) => copied(run, offset, length))
}

/** As few of nearly the same size as there can be: so none is below half of the most. */
function inPieces(from: number, to: number, bytesMax: number): [offset: number, length: number][] {
  const count = Math.ceil((to - from) / bytesMax)
  return Array.from({ length: count }, (_, at) => {
    const start = from + Math.floor(((to - from) * at) / count)
    return [start, from + Math.floor(((to - from) * (at + 1)) / count) - start]
  })
}

function bytesOf(offset: number, length: number): PlannedPiece {
  return { kind: 'bytes', offset, length }
}

function copied({ source, shift }: Run, offset: number, length: number): PlannedPiece {
  return { kind: 'copy', from: source, sourceOffset: offset + shift, offset, length }
}
