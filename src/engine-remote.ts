/** The part of the engine that looks after the remote store as a whole: names, and what is left over there (engine.ts). */
import type { SegmentId } from './common/ids.ts'
import type { EngineParts } from './engine-parts.ts'
import type { Namespace } from './meta/namespace/namespace.ts'
import { Collector } from './persist/collector.ts'
import { NamesStream } from './persist/names/names-stream.ts'

/** Undefined where segments lie beside the metadata that names them: names would be lost with them. */
export function buildNames(
  parts: EngineParts,
  { namespace, hurry }: { namespace: Namespace; hurry: (segments: readonly SegmentId[]) => void },
): NamesStream | undefined {
  const { remote, clock, limits, fillRandom } = parts
  if (!remote) return undefined
  const { store, guard, names } = remote
  return new NamesStream({
    source: namespace.names,
    remote: store,
    lineage: guard.holder,
    clock,
    fillRandom,
    intervalMs: names.intervalMs,
    backupIntervalMs: names.backupIntervalMs,
    backupsKept: names.backupsKept,
    waitMsMax: limits.persistWaitMsMax,
    mayDelete: () =>
      guard.verifiedNow().then(
        () => true,
        () => false,
      ),
    hurry,
    onFailure: (cause) => parts.onEvent({ kind: 'job-failed', job: 'names', cause }),
  })
}

/** Undefined where segments are adopted: there the directories are compared at each start. */
export function buildCollector(
  parts: EngineParts,
  { namespace, names }: { namespace: Namespace; names: NamesStream | undefined },
): Collector | undefined {
  const { remote } = parts
  if (remote?.carries !== 'uploading') return undefined
  return new Collector({
    remote: remote.store,
    index: namespace,
    verify: () => remote.guard.verifiedNow(),
    mayCollect: (segment) => names?.needsUnknown(segment) === false,
    onMissing: (segment) => parts.onEvent({ kind: 'segment-missing', segment }),
    startedMs: parts.clock.nowMs(),
  })
}
