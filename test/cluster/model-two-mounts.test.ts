// needs: etcd fusermount3 python3
/** Random system calls by the mounts of two neighbours in turns, against files in memory. The long form: npm run mount-model -- --two-mounts. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { compareTwoMounts } from '../acceptance/fuse/two-mounts/compare.ts'
import { testSeed } from '../model/random.ts'
import { SharedGateways } from '../support/three-gateways.ts'

const SEED = testSeed()
const OPERATIONS = 600
/** Of some 200: what goes by one mount alone shows nothing. */
const CHANGES_MIN = 50

let gateways: SharedGateways

beforeAll(async () => {
  gateways = await SharedGateways.start({ count: 2, mounts: true })
})

afterAll(() => gateways.end())

it(`answers by either mount as a plain tree does, and S3 has what was published (seed ${SEED})`, async () => {
  // Caches are dropped by the long form only: those of the whole machine are no matter for a test among others.
  const changes = await compareTwoMounts(gateways, { seed: SEED, operations: OPERATIONS, mayDropCaches: false })
  expect(changes).toBeGreaterThan(CHANGES_MIN)
})
