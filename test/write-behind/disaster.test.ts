/** The loss of a node, in its short form. The long one: npm run write-behind-disaster. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { externalS3Lack } from '../support/external-s3-program.ts'
import { runDisaster, runRebuild } from './disaster/disaster.ts'
import { startRemote, type RemoteTarget } from './remote/remote-target.ts'

const SEED = testSeed()
const TEST_MS_MAX = 300_000
const lack = await externalS3Lack()

describe.skipIf(lack !== undefined)(`C17: the data directory is gone (seed ${SEED})`, () => {
  let remote: RemoteTarget
  let directory: string
  beforeAll(async () => {
    remote = await startRemote('external')
  })
  afterAll(() => remote.stop())
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'tidegate-disaster-'))
  })
  afterEach(() => rmSync(directory, { recursive: true, force: true }))

  it(
    'restore brings back what was persisted, or backed up, and the old node is refused',
    { timeout: TEST_MS_MAX },
    async () => {
      const { acknowledged, compared } = await runDisaster({ seed: SEED, directory, remote, loadMs: 3_000 })
      expect(acknowledged).toBeGreaterThan(50)
      expect(compared).toBeGreaterThan(50)
    },
  )

  it('rebuild needs neither: segments name what is in them', { timeout: TEST_MS_MAX }, async () => {
    const { compared } = await runRebuild({ seed: SEED, directory, remote, loadMs: 3_000 })
    expect(compared).toBeGreaterThan(50)
  })
})
