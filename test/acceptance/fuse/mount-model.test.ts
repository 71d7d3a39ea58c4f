/** Random system calls in the mount against files in memory. The long form: npm run mount-model. */
// needs: python3
import { expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { testSeed } from '../../model/random.ts'
import { amountOf } from '../../support/metadata-switch.ts'
import { startMounted } from '../../support/mounted-gateway.ts'
import { compareWithModel } from './model/compare.ts'

const SEED = testSeed()
const OPERATIONS = amountOf({ usual: 1500, overEtcd: 1500, brieflyOverEtcd: 400 })

it.skipIf(unmetNeeds() !== undefined)(
  `C20, C25-C28: answers as a plain tree does, and S3 has what was published (seed ${SEED})`,
  { timeout: 120_000 },
  async () => {
    const mounted = await startMounted()
    try {
      // Caches are dropped by the long form only: those of the whole machine are no matter for a test among others.
      await expect(
        compareWithModel(mounted, { seed: SEED, operations: OPERATIONS, mayDropCaches: false }),
      ).resolves.toBeUndefined()
    } finally {
      await mounted.stop()
    }
  },
)
