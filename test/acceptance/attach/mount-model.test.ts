/** The mount's model test in an attached bucket, with the rules of C32. The long form: npm run mount-model -- --attached tidegate. */
// needs: python3
import { expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { testSeed } from '../../model/random.ts'
import { AttachedStore, modelInStore } from '../../support/attached-store.ts'
import { startMounted } from '../../support/mounted-gateway.ts'
import { compareWithModel } from '../fuse/model/compare.ts'

const SEED = testSeed()
const OPERATIONS = 600

it.skipIf(unmetNeeds() !== undefined)(
  `C25-C28, C32: an attached bucket answers as a plain tree does, and outside lies what the mount has (seed ${SEED})`,
  { timeout: 180_000 },
  async () => {
    const store = await AttachedStore.start('tidegate')
    const mounted = await startMounted([], { environment: store.remote.environment })
    try {
      const attached = modelInStore(mounted, store)
      await expect(
        compareWithModel(mounted, { seed: SEED, operations: OPERATIONS, mayDropCaches: false, attached }),
      ).resolves.toBeUndefined()
    } finally {
      await mounted.stop()
      await store.stop()
    }
  },
)
