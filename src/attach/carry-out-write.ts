/** What is written outside for one key that names something here, on one condition. */
import { createHash } from 'node:crypto'
import { unreachable } from '../common/assert.ts'
import { TidegateError } from '../common/errors.ts'
import type { ExternalBody } from '../common/external.ts'
import type { SegmentId } from '../common/ids.ts'
import type { ObjectAttributes } from '../common/model.ts'
import type { Content } from './carry-out-content.ts'
import { copiesOf, planBody, type Plan, type PlanLimits, type PlannedPiece } from './carry-out-plan.ts'
import { sameButTags, sameMap } from './carry-out-same.ts'
import { KEY_BYTES_MAX } from './key-order.ts'
import type { DirtyState, Expected, ExternalBucket, ExternalCapabilities, UploadPiece } from './ports.ts'

export interface Writing {
  readonly external: ExternalBucket
  readonly capabilities: ExternalCapabilities
  readonly key: string
  readonly signal: AbortSignal
  readonly state: DirtyState
  readonly sources: ReadonlyMap<SegmentId, ExternalBody>
  readonly content: Content
  readonly limits: PlanLimits
  readonly expected: Expected
  /** What it was to be copied from is another object now: its bytes are sent, if they can be had. */
  readonly bytesOnly: boolean
  /** Where the store cannot decide a condition, it is done without: `last-writer-wins`. */
  readonly blind: boolean
  /** To be told before it may be there. */
  readonly aboutToWrite: (etag: string) => Promise<void>
}

/**
 * Returns the ETag of what lies there by that.
 * @throws PreconditionFailed, NoSuchKey of the target or of what is copied; what `ExternalBucket` does
 */
export async function writeOutside(writing: Writing): Promise<string> {
  const { key, content, expected, state, sources, capabilities, limits, blind, bytesOnly } = writing
  const { body, size, etag, attributes } = content.version
  // The mount makes longer names; they stay here, and are listed as failing.
  if (Buffer.byteLength(key) > KEY_BYTES_MAX) {
    throw new TidegateError('KeyTooLong', `the store takes keys of at most ${KEY_BYTES_MAX} bytes`)
  }
  if (body.kind === 'external') {
    const { external: from } = body
    if (from.key === key && expected.kind === 'etag' && expected.etag === from.etag) {
      return await describe(writing, from)
    }
    // What only a listing has told of keeps what describes it over there.
    return await perform(writing, planRenamed(writing, from), from.isDescribed ? attributes : undefined)
  }
  const partsAreSafe = capabilities.conditionalComplete || blind || expected.kind === 'anything'
  const extents = bytesOnly ? [] : state.extents
  const plan = planBody({ size, etag, extents, partSizes: state.partSizes, sources, partsAreSafe }, limits)
  return await perform(writing, plan, attributes)
}

/** A body that never left its key: only what describes it was changed here, and only if that was known before. */
async function describe(writing: Writing, body: ExternalBody): Promise<string> {
  const { external, key, signal, content } = writing
  const { attributes } = content.version
  const seen = await external.head(key, signal)
  if (seen?.etag !== body.etag) throw isAnother(key)
  if (!body.isDescribed || isAllThere(attributes, seen.attributes)) return body.etag
  if (sameButTags(attributes, seen.attributes) && attributes.storageClass === seen.attributes.storageClass) {
    await external.setTags(key, attributes.tags)
    return body.etag
  }
  return await perform(writing, { kind: 'copy', from: body }, attributes)
}

function isAllThere(ours: ObjectAttributes, theirs: ObjectAttributes): boolean {
  return sameButTags(ours, theirs) && sameMap(ours.tags, theirs.tags) && ours.storageClass === theirs.storageClass
}

/** In the cheapest way that the store can do on condition. */
function planRenamed({ capabilities, expected, blind, bytesOnly, limits }: Writing, from: ExternalBody): Plan {
  const { size, etag } = from
  if (bytesOnly) {
    return planBody({ size, etag, extents: [], partSizes: [], sources: new Map(), partsAreSafe: true }, limits)
  }
  if (capabilities.conditionalCopy || blind || expected.kind === 'anything') return { kind: 'copy', from }
  if (capabilities.conditionalComplete && size > 0) return { kind: 'parts', pieces: copiesOf(from, limits) }
  return size <= limits.putBytesMax ? { kind: 'put' } : { kind: 'copy', from }
}

async function perform(writing: Writing, plan: Plan, known: ObjectAttributes | undefined): Promise<string> {
  const { external, key, content, signal } = writing
  switch (plan.kind) {
    case 'put': {
      const attributes = known ?? (await attributesElsewhere(writing))
      await writing.aboutToWrite(await etagOfPut(content))
      const expected = await conditionFor(writing, 'conditionalPut')
      return (await external.put(key, content.piece(0, content.version.size), { attributes, expected, signal })).etag
    }
    case 'parts': {
      const attributes = known ?? (await attributesElsewhere(writing))
      const expected = await conditionFor(writing, 'conditionalComplete')
      const pieces = plan.pieces.map((piece) => uploadPiece(content, piece))
      const aboutToComplete = writing.aboutToWrite
      return (await external.putInParts(key, pieces, { attributes, expected, signal, aboutToComplete })).etag
    }
    case 'copy': {
      await writing.aboutToWrite(plan.from.etag)
      const expected = await conditionFor(writing, 'conditionalCopy')
      const aboutToComplete = writing.aboutToWrite
      return (await external.copy(plan.from, key, { attributes: known, expected, signal, aboutToComplete })).etag
    }
    default:
      return unreachable(plan, 'plan')
  }
}

/** Of what the mount wrote it is not known, and such bodies are small (carry-out-plan.ts) or rare: read once more. */
async function etagOfPut(content: Content): Promise<string> {
  const { etag, size } = content.version
  if (/^[0-9a-f]{32}$/.test(etag)) return etag
  const hash = createHash('md5')
  for await (const slice of content.bytes(0, size)) hash.update(slice)
  return hash.digest('hex')
}

function uploadPiece(content: Content, piece: PlannedPiece): UploadPiece {
  const { offset, length } = piece
  if (piece.kind === 'bytes') return { kind: 'bytes', source: content.piece(offset, length) }
  const { key, etag } = piece.from
  return { kind: 'copy', key, etag, offset: piece.sourceOffset, length }
}

/** Of a renamed object that has not been looked at: what is written anew must say all that it said. */
async function attributesElsewhere({ external, content, signal }: Writing): Promise<ObjectAttributes> {
  const { body, attributes } = content.version
  if (body.kind !== 'external') return attributes
  const found = await external.head(body.external.key, signal)
  return found?.etag === body.external.etag ? found.attributes : attributes
}

/** What to ask of the store; what it cannot decide is looked at right before. @throws PreconditionFailed */
async function conditionFor(
  { external, key, capabilities, expected, blind, signal }: Writing,
  capability: keyof ExternalCapabilities,
): Promise<Expected> {
  if (expected.kind === 'anything' || capabilities[capability]) return expected
  if (!blind) {
    const seen = await external.head(key, signal)
    if (seen?.etag !== (expected.kind === 'etag' ? expected.etag : undefined)) throw isAnother(key)
  }
  return { kind: 'anything' }
}

function isAnother(key: string): TidegateError {
  return new TidegateError('PreconditionFailed', `${JSON.stringify(key)} is another object now`)
}
