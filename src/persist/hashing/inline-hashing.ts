/** Hashing on the calling thread, for tests and the simulation: same results, no threads, no waiting. */
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import { bodyHashes, createLaneHash, laneAlgorithms, pageChecksumsOf, sameChecksums } from './lanes.ts'
import type { Hashing, HashRequest, HashSlice, HashStream } from './ports.ts'

export function createInlineHashing(options: { slab: SharedArrayBuffer }): Hashing {
  const view = (slice: HashSlice): Uint8Array => new Uint8Array(options.slab, slice.slabOffset, slice.length)
  let stopped = false
  const checkRunning = (): void => {
    if (stopped) throw new TidegateError('Unavailable', 'hashing has stopped')
  }
  return {
    open: (request) => {
      checkRunning()
      return createInlineStream(request, view)
    },
    async pageChecksums(slice, pageBytes) {
      checkRunning()
      return pageChecksumsOf(view(slice), pageBytes)
    },
    async verifyPages(slice, pageBytes, checksums) {
      checkRunning()
      return sameChecksums(pageChecksumsOf(view(slice), pageBytes), checksums)
    },
    start: async () => undefined,
    drain: async () => undefined,
    stop: async () => {
      stopped = true
    },
  }
}

function createInlineStream(request: HashRequest, view: (slice: HashSlice) => Uint8Array): HashStream {
  const lanes = laneAlgorithms(request).map((algorithm) => ({ algorithm, hash: createLaneHash(algorithm) }))
  let state: 'open' | 'finished' | 'abandoned' = 'open'
  return {
    async update(slice) {
      assert(state === 'open', `update of a hash stream that is ${state}`)
      for (const lane of lanes) lane.hash.update(view(slice))
    },
    async finish() {
      assert(state === 'open', `finish of a hash stream that is ${state}`)
      state = 'finished'
      return bodyHashes(request, new Map(lanes.map((lane) => [lane.algorithm, lane.hash.digest()])))
    },
    abandon() {
      state = 'abandoned'
    },
  }
}
