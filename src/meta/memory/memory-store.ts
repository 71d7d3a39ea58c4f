import { SerialStage } from '../serial-stage.ts'
import type { StageOptions } from '../stage/options.ts'
import type { EmbeddedStore } from '../stage/ports.ts'
import { MemoryBackend } from './memory-backend.ts'

export interface MemoryStoreOptions extends StageOptions {
  /** Pass one to make it fail, crash or start from what another left. Default: a new, empty one. */
  readonly backend?: MemoryBackend
}

/** An ordered store that lives in memory: the stage of the embedded engines over a map. For tests and the simulation. */
export function createMemoryStore(options: MemoryStoreOptions = {}): EmbeddedStore {
  const { backend = new MemoryBackend(), ...stageOptions } = options
  return new SerialStage(backend, stageOptions)
}
