/** Hashing on a pool of worker threads that see the slab as shared memory. See ports.ts for the contract. */
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import { createHashWorkerLink, type HashWorkerLink, type Lane } from './hash-worker-link.ts'
import { bodyHashes, laneAlgorithms, sameChecksums } from './lanes.ts'
import { HASH_UPDATES_UNANSWERED_MAX, type Hashing, type HashRequest, type HashStream } from './ports.ts'

export interface HashWorkersOptions {
  readonly slab: SharedArrayBuffer
  /** How many threads. */
  readonly workers: number
  /** Slices that one worker has in hand at once; more wait on the engine's side. */
  readonly queueSlicesMax: number
}

export function createHashWorkers(options: HashWorkersOptions): Hashing {
  assert(options.workers > 0, 'at least one hash worker')
  const links = Array.from({ length: options.workers }, () =>
    createHashWorkerLink({ slab: options.slab, windowMax: options.queueSlicesMax }),
  )
  const leastBy = (load: (link: HashWorkerLink) => number): HashWorkerLink => {
    let least: HashWorkerLink | undefined
    for (const link of links) if (link.up() && (least === undefined || load(link) < load(least))) least = link
    if (least === undefined) throw new TidegateError('Unavailable', 'no hash worker is running')
    return least
  }
  let draining = false
  const hashing: Hashing = {
    open(request) {
      if (draining) throw new TidegateError('Unavailable', 'hashing takes no new bodies: the process is stopping')
      const lanes = laneAlgorithms(request).map((algorithm) => leastBy((link) => link.laneCost()).openLane(algorithm))
      return createPooledStream(request, lanes)
    },
    pageChecksums: async (slice, pageBytes) => leastBy((link) => link.queuedBytes()).pages(slice, pageBytes),
    verifyPages: async (slice, pageBytes, checksums) =>
      sameChecksums(await hashing.pageChecksums(slice, pageBytes), checksums),
    start: async () => void (await Promise.all(links.map((link) => link.start()))),
    drain: async () => {
      draining = true
      await Promise.all(links.map((link) => link.idle()))
    },
    stop: async () => void (await Promise.all(links.map((link) => link.stop()))),
  }
  return hashing
}

function createPooledStream(request: HashRequest, lanes: readonly Lane[]): HashStream {
  let state: 'open' | 'finished' | 'abandoned' = 'open'
  let unanswered = 0
  const abandon = (): void => {
    state = 'abandoned'
    for (const lane of lanes) lane.close()
  }
  let failure: unknown
  /** The first lane that fails fails the stream; the other lanes then have nothing to work for. */
  const all = async <T>(work: (lane: Lane) => Promise<T>): Promise<T[]> => {
    if (failure !== undefined) throw failure
    try {
      return await Promise.all(lanes.map(work))
    } catch (error) {
      failure ??= error
      for (const lane of lanes) lane.close()
      throw error
    }
  }
  return {
    async update(slice) {
      assert(state === 'open', `update of a hash stream that is ${state}`)
      assert(unanswered < HASH_UPDATES_UNANSWERED_MAX, 'too many unanswered updates of a hash stream')
      unanswered++
      try {
        await all((lane) => lane.update(slice))
      } finally {
        unanswered--
      }
    },
    async finish() {
      assert(state === 'open', `finish of a hash stream that is ${state}`)
      state = 'finished'
      const digests = await all(async (lane) => [lane.algorithm, await lane.digest()] as const)
      return bodyHashes(request, new Map(digests))
    },
    abandon,
  }
}
