/** Faults on the way to the remote store, in their short form. The table and the long form: npm run write-behind-faults. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { startExternalS3, type ExternalS3 } from '../support/external-s3.ts'
import { externalS3Lack } from '../support/external-s3-program.ts'
import { FAULT_CASES } from './faults/cases.ts'
import { runFault } from './faults/fault-run.ts'

const SEED = testSeed()
const CI_SECONDS = 8
const lack = await externalS3Lack()
const isRoot = process.getuid?.() === 0

describe.skipIf(lack !== undefined)(`C19: writers and readers while this fails (seed ${SEED})`, () => {
  let server: ExternalS3
  beforeAll(async () => {
    server = await startExternalS3()
  })
  afterAll(() => server.stop())

  for (const fault of FAULT_CASES) {
    it.skipIf(fault.ownDisk === true && !isRoot)(fault.name, { timeout: 300_000 }, async () => {
      const seconds = Math.min(CI_SECONDS, fault.seconds.short)
      const report = await runFault(fault, server, { seconds, seed: SEED })
      expect(report.accepted, JSON.stringify(report)).toBeGreaterThan(0)
      expect(report.compared).toBeGreaterThan(50)
    })
  }
})
