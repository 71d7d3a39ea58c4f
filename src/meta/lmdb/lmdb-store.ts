import { SerialStage } from '../serial-stage.ts'
import type { StageOptions } from '../stage/options.ts'
import type { EmbeddedStore } from '../stage/ports.ts'
import { LmdbBackend, type LmdbBackendOptions } from './lmdb-backend.ts'

export interface LmdbStoreOptions extends StageOptions, LmdbBackendOptions {}

/** The default ordered store: the stage of the embedded engines over an LMDB file. */
export function createLmdbStore(options: LmdbStoreOptions): EmbeddedStore {
  const { directory, mapBytesMax, ...stageOptions } = options
  return new SerialStage(
    new LmdbBackend({ directory, ...(mapBytesMax !== undefined && { mapBytesMax }) }),
    stageOptions,
  )
}
