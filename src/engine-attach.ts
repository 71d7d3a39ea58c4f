/**
 * The part of the engine that mirrors attached buckets (engine.ts, docs/decisions/0015): what stands between the store and the namespace, where blocks
 * of external segments come from, and what carries changes out. Without an attached bucket all of it costs a look at an empty map.
 */
import type { AttachmentsParts } from './attach/attachments.ts'
import { Attachments } from './attach/attachments.ts'
import { contentReader } from './attach/carry-out-content.ts'
import type { PlanLimits } from './attach/carry-out-plan.ts'
import { AttachmentControl } from './attach/control.ts'
import { ExternalBlocks, withExternalBlocks, type BlockFetching, type KeptBlocks } from './attach/external-blocks.ts'
import { ExternalSegments } from './attach/external-segments.ts'
import { Freshness } from './attach/freshness.ts'
import { mirroredFiles } from './attach/mirrored-files.ts'
import { mirroredMetadata } from './attach/mirrored-metadata.ts'
import { attachedPersisting } from './attach/persisting.ts'
import { UnheldKeys } from './attach/unheld.ts'
import { WriteBack } from './attach/write-back.ts'
import type { EngineParts } from './engine-parts.ts'
import type { Namespace } from './meta/namespace/namespace.ts'
import type { Persisting } from './store/byte-ports.ts'
import type { MetadataFiles } from './store/file-ports.ts'
import type { Metadata } from './store/ports.ts'
import type { RunningStore } from './store/store.ts'

/** How external buckets are reached. */
export interface EngineAttach extends Pick<AttachmentsParts, 'external' | 'placeOf' | 'reserved' | 'region'> {
  /** Of uploads; those of S3 unless told. */
  readonly planLimits?: PlanLimits | undefined
}

/** Keys carried out at once. */
const CONCURRENCY = 8
/** Long enough for an editor's save or a delete right behind; short for who looks at the external bucket. */
const DELAY_MS = 200
/** At a stop: what is left is dirty in the rows, and goes with the next start. */
const DRAIN_MS_MAX = 5000

export interface Attaching {
  readonly attachments: Attachments
  readonly freshness: Freshness
  readonly blocks: ExternalBlocks
  readonly metadata: Metadata
  readonly files: MetadataFiles
  readonly writeBack: WriteBack
  readonly control: AttachmentControl
  source(behind: BlockFetching): BlockFetching
  persisting(behind: Persisting): Persisting
  /** Before anything is served. */
  load(): Promise<void>
  start(): void
  drain(): Promise<void>
  stop(): Promise<void>
}

export function buildAttaching(
  parts: EngineParts & { readonly attach: EngineAttach },
  needs: {
    readonly namespace: Namespace
    readonly slabView: (slabOffset: number, length: number) => Uint8Array
    readonly disk: KeptBlocks | undefined
    readonly store: () => RunningStore
  },
): Attaching {
  const { clock, limits, fillRandom, onEvent } = parts
  const { planLimits } = parts.attach
  const { namespace, slabView, disk } = needs
  const unheld = new UnheldKeys(limits)
  const names = unheld.watching(namespace.attached)
  const onFailure = (doing: string, cause: unknown): void => onEvent({ kind: 'job-failed', job: doing, cause })
  const attachments = new Attachments({ ...parts.attach, names, clock, onFailure })
  const segments = new ExternalSegments({ attached: attachments, names })
  const freshness = new Freshness({ names, mirror: namespace, clock })
  const blocks = new ExternalBlocks({ segments, freshness, limits, slabView, disk })
  const mirrored = { attached: attachments, freshness, segments, names }
  const writeBack = new WriteBack({
    names,
    attached: attachments,
    contents: contentReader({
      store: () => needs.store().reading,
      revision: () => namespace.revision(),
      learn: (bucketId, body) => segments.learn(bucketId, body),
    }),
    clock,
    random: parts.random,
    fillRandom,
    ...(planLimits && { planLimits }),
    concurrency: CONCURRENCY,
    delayMs: DELAY_MS,
    waitMsMax: limits.admissionWaitMsMax,
    onFailure: ({ bucket, key, cause, attempt }) => onEvent({ kind: 'carry-out-failed', bucket, key, attempt, cause }),
    onConflict: ({ bucket, key, ended, as }) => onEvent({ kind: 'conflict', bucket, key, ended, as }),
  })
  const control = new AttachmentControl({
    attachments,
    names,
    writeBack,
    freshness,
    unheld,
    clock,
    fillRandom,
    onFailure,
  })
  return {
    attachments,
    freshness,
    blocks,
    metadata: mirroredMetadata(namespace, mirrored),
    files: mirroredFiles(namespace.files, { ...mirrored, objects: namespace }),
    writeBack,
    control,
    source: (behind) => withExternalBlocks(behind, blocks),
    persisting: (behind) => attachedPersisting(behind, { attached: attachments, writeBack }),
    load: () => attachments.load(),
    start() {
      writeBack.start()
      control.start()
    },
    async drain() {
      if (!attachments.isEmpty) await writeBack.drain({ waitMsMax: DRAIN_MS_MAX })
    },
    async stop() {
      await writeBack.stop()
      await control.stop()
    },
  }
}
