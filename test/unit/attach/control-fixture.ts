/** Attached buckets as people run them, over a real namespace, external buckets in memory and a clock that is moved by hand. */
import { Attachments, type AttachmentRequest } from '../../../src/attach/attachments.ts'
import { AttachmentControl } from '../../../src/attach/control.ts'
import type { ExternalPlace, NamedPlace } from '../../../src/attach/external-places.ts'
import { Freshness } from '../../../src/attach/freshness.ts'
import { mirroredMetadata } from '../../../src/attach/mirrored-metadata.ts'
import { ExternalSegments } from '../../../src/attach/external-segments.ts'
import type { AttachedNames } from '../../../src/attach/ports.ts'
import { UnheldKeys } from '../../../src/attach/unheld.ts'
import { WriteBack } from '../../../src/attach/write-back.ts'
import { TidegateError } from '../../../src/common/errors.ts'
import { DEFAULT_LIMITS } from '../../../src/common/limits.ts'
import type { Metadata } from '../../../src/store/ports.ts'
import { HandClock } from '../../conformance/hand-clock.ts'
import { MemoryBucket } from '../../support/memory-bucket.ts'
import { fixture, type Fixture } from '../meta/namespace/fixture.ts'
import { turns } from './write-back-fixture.ts'

export const REQUEST: AttachmentRequest = {
  bucket: 'far',
  url: 's3://there/photos',
  conflicts: 'fail',
  ttlMs: 10_000,
  listingTtlMs: 60_000,
  compareIntervalMs: 0,
  owner: 'owner',
  ack: 'journal',
}

/** What outlives a process: the namespace, and what lies outside. */
export interface World {
  readonly here: Fixture
  readonly clock: HandClock
  /** By URL. */
  readonly outside: Map<string, MemoryBucket>
  readonly failures: string[]
}

export interface Run extends World {
  readonly names: AttachedNames
  readonly attachments: Attachments
  readonly control: AttachmentControl
  readonly metadata: Metadata
  readonly writeBack: WriteBack
  readonly freshness: Freshness
  /** Of `REQUEST`. */
  readonly external: MemoryBucket
  readonly put: (key: string, text: string) => Promise<void>
  /** What an object outside holds, as text. */
  readonly read: (key: string) => string | undefined
  readonly stop: () => Promise<void>
  /** Moves the clock, in so many steps, until the promise has settled. */
  readonly moving: <T>(promise: Promise<T>, stepMs?: number) => Promise<T>
}

const STEPS_MAX = 2000

export async function world(): Promise<World> {
  const here = await fixture()
  return { here, clock: new HandClock(), outside: new Map(), failures: [] }
}

export function placeOf(url: string): ExternalPlace {
  const match = /^s3:\/\/([^/?]+)\/?([^?]*)(?:\?endpoint=(.*))?$/.exec(url)
  if (!match) throw new TidegateError('InvalidArgument', `the URL ${JSON.stringify(url)} is not s3://BUCKET/PREFIX`)
  const [, bucket = '', prefix = '', endpoint] = match
  return { bucket, prefix, endpoint }
}

/** A process over the world: loaded, and started. */
export async function begin(w: World, { reserved = [] }: { reserved?: readonly NamedPlace[] } = {}): Promise<Run> {
  const { here, clock, failures } = w
  const { namespace } = here
  const unheld = new UnheldKeys(DEFAULT_LIMITS)
  const names = unheld.watching(namespace.attached)
  const externalOf = (url: string): MemoryBucket => {
    const found = w.outside.get(url) ?? new MemoryBucket({ clock })
    w.outside.set(url, found)
    return found
  }
  const onFailure = (doing: string, cause: unknown): void => {
    failures.push(`${doing}: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  const attachments = new Attachments({
    names,
    placeOf,
    external: (url) => withoutStop(externalOf(url)),
    reserved,
    region: 'us-east-1',
    clock,
    onFailure,
  })
  const freshness = new Freshness({ names, mirror: namespace, clock })
  const writeBack = new WriteBack({
    names,
    attached: attachments,
    contents: { open: () => ({ bytes: onlyInline, close: () => undefined }) },
    clock,
    random: () => 0.5,
    fillRandom: (bytes) => bytes.fill(7),
    concurrency: 2,
    delayMs: 100,
    waitMsMax: 1000,
    onFailure: () => undefined,
    onConflict: () => undefined,
  })
  const fillRandom = (bytes: Uint8Array): Uint8Array => bytes.fill(7)
  const parts = { attachments, names, writeBack, freshness, unheld, clock, fillRandom }
  const control = new AttachmentControl({ ...parts, onFailure })
  const segments = new ExternalSegments({ attached: attachments, names })
  const metadata = mirroredMetadata(namespace, { attached: attachments, freshness, segments, names })
  await attachments.load()
  writeBack.start()
  control.start()
  const moving = async <T>(promise: Promise<T>, stepMs = 100): Promise<T> => {
    const settling = { isOver: false }
    const end = (): void => void (settling.isOver = true)
    promise.then(end, end)
    for (let step = 0; step < STEPS_MAX; step++) {
      await turns()
      if (settling.isOver) break
      await clock.advance(stepMs)
    }
    return await promise
  }
  return {
    ...w,
    names,
    attachments,
    control,
    metadata,
    writeBack,
    freshness,
    get external() {
      return externalOf(REQUEST.url)
    },
    async put(key, text) {
      await here.put('far', key, { bytes: text })
    },
    read: (key) => externalOf(REQUEST.url).peek(key)?.bytes.toString(),
    moving,
    stop: async () => {
      await Promise.all([writeBack.stop(), control.stop()])
    },
  }
}

function onlyInline(): never {
  throw new Error('bodies here are inline')
}

/** The next process has a client of its own; this bucket in memory is the store itself. */
function withoutStop(bucket: MemoryBucket): MemoryBucket {
  return new Proxy(bucket, {
    get(target, name) {
      if (name === 'stop') return () => undefined
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}
