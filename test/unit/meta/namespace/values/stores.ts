/** The stores that the operations on values are tested over. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLmdbStore } from '../../../../../src/meta/lmdb/lmdb-store.ts'
import type { StageOptions } from '../../../../../src/meta/stage/options.ts'
import { fixture, fixtureOn, type Fixture } from '../fixture.ts'

export const STORES: readonly (readonly [name: string, begin: (options?: StageOptions) => Promise<Fixture>])[] = [
  ['memory', (options = {}) => fixture(options)],
  ['lmdb', lmdbFixture],
]

async function lmdbFixture(options: StageOptions = {}): Promise<Fixture> {
  const directory = await mkdtemp(join(tmpdir(), 'tidegate-values-'))
  const made = await fixtureOn(createLmdbStore({ ...options, directory }))
  return {
    ...made,
    stop: async () => {
      await made.stop()
      await rm(directory, { recursive: true })
    },
  }
}
