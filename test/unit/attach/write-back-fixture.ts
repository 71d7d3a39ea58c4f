/** Carrying out over a fake mirror, an external bucket in memory, and a clock that is moved by hand. */
import type { Attached, AttachedBuckets } from '../../../src/attach/attached.ts'
import type { ContentReader } from '../../../src/attach/carry-out-content.ts'
import type { CarryOutParts } from '../../../src/attach/carry-out.ts'
import { carryOut, type CarriedOut } from '../../../src/attach/carry-out.ts'
import { PLAN_LIMITS, type PlanLimits } from '../../../src/attach/carry-out-plan.ts'
import type { AttachedNames } from '../../../src/attach/ports.ts'
import { WriteBack, type WriteBackOptions } from '../../../src/attach/write-back.ts'
import { TidegateError } from '../../../src/common/errors.ts'
import type { ConflictPolicy } from '../../../src/common/external.ts'
import type { ObjectVersion } from '../../../src/common/model.ts'
import { HandClock, turn } from '../../conformance/hand-clock.ts'
import { MemoryBucket } from '../../support/memory-bucket.ts'
import { BUCKET_ID, FakeAttachedNames } from './fake-attached-names.ts'

export interface CarryFixture {
  readonly names: FakeAttachedNames
  readonly bucket: MemoryBucket
  readonly clock: HandClock
  readonly attached: Attached
  readonly attachedBuckets: AttachedBuckets
  /** Bytes of bodies that are neither inline nor outside. */
  readonly contents: Map<number, Buffer>
  readonly parts: CarryOutParts
  readonly carry: (key: string, more?: { makeRoom?: boolean }) => Promise<CarriedOut>
  /** What an object outside holds, as text. */
  readonly outside: (key: string) => string | undefined
  readonly writeBack: (options?: Partial<WriteBackOptions>) => WriteBackFixture
}

export interface WriteBackFixture {
  readonly writeBack: WriteBack
  readonly failures: { key: string; attempt: number }[]
  readonly conflicts: { key: string; ended: string; as: string | undefined }[]
}

export const DELAY_MS = 200

export function carryFixture(conflicts: ConflictPolicy = 'fail', planLimits: PlanLimits = PLAN_LIMITS): CarryFixture {
  const names = new FakeAttachedNames()
  const clock = new HandClock()
  const bucket = new MemoryBucket({ clock })
  bucket.partBytesMin = planLimits.partBytesMin
  names.nowMs = clock.nowMs
  const contents = new Map<number, Buffer>()
  const attached: Attached = {
    record: {
      bucketId: BUCKET_ID,
      bucket: 'b',
      url: 's3://b',
      conflicts,
      ttlMs: 1000,
      listingTtlMs: 1000,
      compareIntervalMs: 0,
      attachedMs: 0,
    },
    external: bucket,
    get capabilities() {
      return { ...bucket.capabilities }
    },
  }
  const attachedBuckets: AttachedBuckets = {
    isEmpty: false,
    of: () => attached,
    ofId: (id) => (id === BUCKET_ID ? attached : undefined),
    all: () => [attached],
  }
  let byte = 0
  const parts: CarryOutParts = {
    names: names as unknown as AttachedNames,
    contents: reader(bucket, contents),
    clock,
    fillRandom: (bytes) => bytes.fill(++byte),
    planLimits,
  }
  return {
    names,
    bucket,
    clock,
    attached,
    attachedBuckets,
    contents,
    parts,
    carry: (key, more = {}) => carryOut(parts, { attached, key, signal: new AbortController().signal, ...more }),
    outside: (key) => bucket.peek(key)?.bytes.toString(),
    writeBack(options = {}) {
      const failures: WriteBackFixture['failures'] = []
      const found: WriteBackFixture['conflicts'] = []
      const writeBack = new WriteBack({
        ...parts,
        attached: attachedBuckets,
        random: () => 1,
        concurrency: 4,
        delayMs: DELAY_MS,
        waitMsMax: 30_000,
        onFailure: ({ key, attempt }) => failures.push({ key, attempt }),
        onConflict: ({ key, ended, as }) => found.push({ key, ended, as }),
        ...options,
      })
      return { writeBack, failures, conflicts: found }
    },
  }
}

const SLICE_BYTES = 1024 * 1024

/** What lies outside is read there, with its ETag, as external blocks are. */
function reader(bucket: MemoryBucket, contents: ReadonlyMap<number, Buffer>): ContentReader {
  async function* bytes(version: ObjectVersion, offset: number, length: number): AsyncGenerator<Uint8Array> {
    const { body } = version
    if (body.kind === 'external') {
      const whole = Buffer.alloc(length)
      await bucket.read(body.external, offset, [whole])
      yield whole
      return
    }
    const content = body.kind === 'content' ? contents.get(body.content) : undefined
    if (!content) throw new TidegateError('DataLost', 'no such content')
    for (let at = offset; at < offset + length; at += SLICE_BYTES) {
      yield content.subarray(at, Math.min(at + SLICE_BYTES, offset + length))
      await Promise.resolve()
    }
  }
  return { open: () => ({ bytes, close: () => undefined }) }
}

/** Lets everything that waits for no time happen. */
export async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await turn()
}
