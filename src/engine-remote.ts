/** The part of the engine that looks after the remote store as a whole: names, and what is left over there (engine.ts). */
import type { BackgroundJob } from './common/background.ts'
import type { SegmentId } from './common/ids.ts'
import type { EngineParts } from './engine-parts.ts'
import type { Namespace } from './meta/namespace/namespace.ts'
import { Collector } from './persist/collector.ts'
import type { NamesKeeper } from './persist/names/keeper.ts'
import { NamesStream } from './persist/names/names-stream.ts'
import type { LivingNodes } from './persist/names/shared/ports.ts'
import { SharedNames } from './persist/names/shared/shared-names.ts'

/** Undefined where segments lie beside the metadata that names them: names would be lost with them. */
export function buildNames(
  parts: EngineParts,
  { namespace, hurry }: { namespace: Namespace; hurry: (segments: readonly SegmentId[]) => void },
): NamesKeeper | undefined {
  const { remote, clock, limits, fillRandom } = parts
  if (!remote) return undefined
  const { store, guard, names } = remote
  const options = {
    source: namespace.names,
    remote: store,
    lineage: guard.holder,
    clock,
    fillRandom,
    intervalMs: names.intervalMs,
    backupIntervalMs: names.backupIntervalMs,
    backupsKept: names.backupsKept,
    ...(names.basedOnBytesMin !== undefined && { basedOnBytesMin: names.basedOnBytesMin }),
    waitMsMax: limits.persistWaitMsMax,
    mayDelete: (): Promise<boolean> =>
      guard.verifiedNow().then(
        () => true,
        () => false,
      ),
    held: (): Promise<void> => guard.verifiedAfresh(),
    heldSinceMs: (): number | undefined => guard.sinceMs,
    hurry,
    onFailure: (cause: unknown): void => parts.onEvent({ kind: 'job-failed', job: 'names', cause }),
  }
  if (parts.nodeNumber === undefined) return new NamesStream(options)
  return new SharedNames({ ...options, rows: namespace.names.holding, nodes: livingNodes(parts) })
}

/** Where nobody says who there is, nobody is taken for gone. */
function livingNodes({ neighbours }: EngineParts): LivingNodes {
  const view = neighbours?.view
  if (!view) return { incarnation: '', isAlive: () => true }
  return {
    get incarnation() {
      return view.member(view.self)?.incarnation ?? ''
    },
    isAlive: (node, incarnation) => view.member(node)?.incarnation === incarnation,
  }
}

/** Undefined where there is no remote store: there the directories are compared at each start. */
export function buildCollector(
  parts: EngineParts,
  { namespace, names }: { namespace: Namespace; names: NamesKeeper | undefined },
): Collector | undefined {
  const { remote } = parts
  if (!remote) return undefined
  return new Collector({
    remote: remote.store,
    index: namespace,
    verify: () => remote.guard.verifiedNow(),
    ...(parts.nodeNumber !== undefined && { allSegments: namespace.names.holding.allSegments }),
    mayCollect: (segment) => names?.needsUnknown(segment) === false,
    onMissing: (segment) => parts.onEvent({ kind: 'segment-missing', segment }),
    onFailure: (doing, cause) => parts.onEvent({ kind: 'job-failed', job: `collector: ${doing}`, cause }),
    nowMs: () => parts.clock.nowMs(),
  })
}

const LOOK_EVERY_MS = 1000
const COLLECT_AGAIN_MS = 60_000

/** What goes on in the background as long as there is a remote store. */
export function remoteJobs(
  { remote, clock }: EngineParts,
  { names, collector }: { names: NamesKeeper | undefined; collector: Collector | undefined },
): BackgroundJob[] {
  if (!remote) return []
  const jobs = [remote.guard.job]
  if (names) jobs.push(names.job)
  if (!collector) return jobs
  let dueMs = -Infinity
  const round = async (): Promise<boolean> => {
    const nowMs = clock.monotonicMs()
    // Before names have looked it is not known what backups need, and nothing could be removed.
    if (nowMs < dueMs || (names && names.status().shippedThrough < 0)) return false
    // One node at a time: the one that knows what names need.
    if (names instanceof SharedNames && !names.isHolder) return false
    dueMs = nowMs + COLLECT_AGAIN_MS
    const more = await collector.step()
    dueMs = more ? -Infinity : nowMs + remote.collectIntervalMs
    return more
  }
  return [...jobs, { name: 'collect', pauseMs: LOOK_EVERY_MS, round }]
}
