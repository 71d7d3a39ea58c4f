import type { Revision } from '../../../common/ids.ts'
import type { NamesState } from '../chain.ts'
import type { BackupManifest } from '../manifest.ts'
import type { RemoteNames } from '../remote-names.ts'
import type { Standing } from './tenure.ts'

/** How a stream stands, as the other nodes are told it. */
export function standingOf(stream: {
  readonly state: NamesState | undefined
  readonly covered: Revision
  readonly stateMs: number
  readonly isHolding: boolean
  readonly remote: RemoteNames
  /** A backup of which nothing was put yet. */
  readonly announced: BackupManifest | undefined
  readonly isFormerKept: boolean
}): Standing {
  const { state, covered, stateMs, isHolding, remote, announced, isFormerKept } = stream
  const kept = remote.backups().filter(({ id }) => id !== announced?.id)
  const pins = [...kept, ...(announced ? [announced] : [])].map(
    ({ id, lineage, revision, newestSegment, createdMs }) => ({
      id,
      revision: lineage === remote.lineage ? revision : -1,
      newestSegment,
      createdMs,
    }),
  )
  return {
    state: state && {
      base: state.base.random,
      deltas: state.deltas.map(({ random }) => random),
      revision: state.revision,
    },
    shippedThrough: covered,
    stateMs,
    isHolding,
    pins,
    pinsAll: remote.unreadable.size > 0,
    isFormerKept,
  }
}
