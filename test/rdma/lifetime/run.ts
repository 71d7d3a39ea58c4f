/**
 * `npm run rdma-lifetime [-- --rounds N]`: the life of the fabric's addon in its long form, N (10,000) open and close cycles of channels and in
 * proportion of the rest, then less of the same with an addon that watches its own memory.
 */
import { rmSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { summaryLine } from '../../support/run-command.ts'
import { makeWatchedCheckout, PLAIN, runKind, type Checkout } from './lifetime.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '10000' } } })
const rounds = Number(values.rounds)

/** How many of each kind for one channel cycle; exits are processes, one a round. */
const SHARES = { channels: 1, regions: 0.02, devices: 0.05, collected: 0.02, workers: 0.005 } as const
const EXITS_SHARE = 0.005
const ENDINGS = ['exit', 'throw', 'idle', 'busy'] as const

let passed = 0
let failed = 0

async function one(checkout: Checkout, kind: string, times: number): Promise<void> {
  const { code, output, durationMs } = await runKind(checkout, kind, times)
  if (code === 0) passed += 1
  else failed += 1
  const said = output.trim().split('\n')
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${kind} ${times}: ${said[0]} (${(durationMs / 1_000).toFixed(1)} s)`)
  if (code !== 0) console.log(output)
}

async function all(checkout: Checkout, share: number): Promise<void> {
  for (const [kind, each] of Object.entries(SHARES)) {
    await one(checkout, kind, Math.max(4, Math.round(rounds * share * each)))
  }
  for (let round = 0; round < Math.max(1, Math.round(rounds * share * EXITS_SHARE)); round++) {
    for (const kind of ENDINGS) await one(checkout, kind, round)
  }
}

console.log('== as it is')
await all(PLAIN, 1)
console.log('== with AddressSanitizer')
const watched = await makeWatchedCheckout()
try {
  // Slower, and its own heap keeps what was freed for a while (lifetime.ts bounds that).
  await all(watched, 0.05)
} finally {
  rmSync(watched.root, { recursive: true })
}
console.log(summaryLine({ passed, failed, skipped: 0 }))
process.exitCode = failed === 0 ? 0 : 1
