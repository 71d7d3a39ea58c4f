/** A node over real files and a remote store of its own, whose rounds a test drives; and its successors on that store. */
import { randomFillSync } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { must } from '../../src/common/assert.ts'
import { systemClock } from '../../src/common/clock.ts'
import type { EngineEvent, EngineRemote } from '../../src/engine-parts.ts'
import { startEngine, type Engine } from '../../src/engine.ts'
import { createLmdbStore } from '../../src/meta/lmdb/lmdb-store.ts'
import { NAMES_KEY_LOG } from '../../src/meta/namespace/names-source.ts'
import { createHashWorkers } from '../../src/persist/hashing/hash-workers.ts'
import { createThreadDevice } from '../../src/persist/journal/device-threads.ts'
import type { NamesKeeper } from '../../src/persist/names/keeper.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import type { RemoteStore } from '../../src/persist/remote/ports.ts'
import { claimFor, finishClaim } from '../../src/remote-claim.ts'
import { RemoteGuard } from '../../src/remote-guard.ts'
import { TINY_LIMITS } from '../sim/life.ts'

export interface RemoteNode {
  readonly engine: Engine
  readonly names: NamesKeeper
  readonly events: readonly EngineEvent[]
  /** Until everything has arrived, and what may go has gone. */
  settle(): Promise<void>
  stop(): Promise<void>
}

const WAIT_MS_MAX = 20_000
/** Enough for each step to see what the one before has done. */
const ROUNDS = 12

/** `directory`: where segments are adopted; undefined: they are uploaded. */
export async function startRemoteNode(
  data: string,
  { remote, directory, backupsKept = 10 }: { remote: RemoteStore; directory?: string; backupsKept?: number },
): Promise<RemoteNode> {
  await mkdir(data, { recursive: true })
  const claim = await claimFor(data, remote, { nowMs: Date.now(), localSegments: undefined, unmarkedIsOurs: false })
  const guard = new RemoteGuard({ remote, claim, clock: systemClock, onFenced: () => undefined })
  const engineRemote: EngineRemote = {
    store: remote,
    carries: directory === undefined ? 'uploading' : 'adopting',
    guard,
    names: { intervalMs: 0, backupIntervalMs: 0, backupsKept, basedOnBytesMin: 20_000 },
    collectIntervalMs: 1000,
    drainMsMax: WAIT_MS_MAX,
  }
  const events: EngineEvent[] = []
  const engine = await startEngine({
    clock: systemClock,
    limits: TINY_LIMITS,
    fileSystem: nodeFileSystem,
    places: { journal: join(data, 'journal'), store: directory ?? join(data, 'store') },
    remote: engineRemote,
    slabBytes: 64 * TINY_LIMITS.blockBytes,
    defaultAck: 'journal',
    diskReserveBytes: 0,
    createDevice: ({ buffer, blockBytes, pageBytes }) => createThreadDevice({ slab: buffer, blockBytes, pageBytes }),
    createHashing: (slab) => createHashWorkers({ slab, workers: 1, queueSlicesMax: 16 }),
    createOrderedStore: (beforeCommit) =>
      createLmdbStore({ directory: join(data, 'meta'), beforeCommit, keyLog: NAMES_KEY_LOG }),
    fillRandom: randomFillSync,
    random: Math.random,
    onEvent: (event) => events.push(event),
    poison: true,
    backgroundJobs: false,
  })
  await finishClaim(data, claim)
  const names = must(engine.names, 'names of a node with a remote store')
  return {
    engine,
    names,
    events,
    async settle() {
      for (let round = 0; round < ROUNDS; round++) {
        await engine.orderedStore.flush()
        await engine.writeBehind.drain({ waitMsMax: WAIT_MS_MAX, through: undefined })
        while (await names.round());
        while (await engine.reclaimer.step());
        await engine.reclaimer.removePersisted()
      }
    },
    stop: () => engine.stop(),
  }
}
