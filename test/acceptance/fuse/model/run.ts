/**
 * `npm run mount-model -- [--seeds N] [--operations N] [--attached tidegate|external] [--two-mounts]`: the mount against the model, in its long form; in
 * attached buckets if so asked, which are compared with what lies outside; or by the mounts of two neighbours in turns (../two-mounts, needs etcd).
 */
import { parseArgs } from 'node:util'
import { testSeed } from '../../../model/random.ts'
import { AttachedStore, modelInStore } from '../../../support/attached-store.ts'
import { SharedGateways } from '../../../support/three-gateways.ts'
import { startMounted } from '../../../support/mounted-gateway.ts'
import type { RemoteKind } from '../../../write-behind/remote/remote-target.ts'
import { compareTwoMounts } from '../two-mounts/compare.ts'
import { compareWithModel } from './compare.ts'

function kindOf(text: string): RemoteKind {
  if (text === 'external' || text === 'tidegate') return text
  throw new Error(`--attached is external or tidegate, not ${text}`)
}

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '20' },
    operations: { type: 'string', default: '5000' },
    attached: { type: 'string' },
    'two-mounts': { type: 'boolean', default: false },
  },
})
const operations = Number(values.operations)
const mayDropCaches = process.getuid?.() === 0

/** @returns what is to be said of it */
async function compare(seed: number): Promise<string> {
  const store = values.attached === undefined ? undefined : await AttachedStore.start(kindOf(values.attached))
  const mounted = await startMounted([], { environment: store?.remote.environment ?? {} })
  try {
    await compareWithModel(mounted, {
      seed,
      operations,
      mayDropCaches,
      attached: store && modelInStore(mounted, store),
    })
    return ''
  } finally {
    await mounted.stop()
    await store?.stop()
  }
}

async function compareNeighbours(seed: number): Promise<string> {
  const gateways = await SharedGateways.start({ mounts: true })
  try {
    const changes = await compareTwoMounts(gateways, { seed, operations, mayDropCaches })
    return `, ${changes} times from one mount to the other`
  } finally {
    await gateways.end()
  }
}

const first = testSeed()
let failed = 0
for (let seed = first; seed < first + Number(values.seeds); seed++) {
  try {
    const said = await (values['two-mounts'] ? compareNeighbours(seed) : compare(seed))
    process.stdout.write(`seed ${seed}: ${operations} operations${said}, no difference\n`)
  } catch (error) {
    failed++
    process.stdout.write(`${(error as Error).stack}\n`)
  }
}
process.stdout.write(`${Number(values.seeds) - failed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 ? 0 : 1
