/** The long forms over an etcd that is shared: rounds with faults, and what came of them. */
import { CrossRenames } from './cross-renames.ts'
import type { Fault } from './faults.ts'
import { SharedRounds } from './shared-rounds.ts'

const RENAMES_A_ROUND = 200

export interface LongRun {
  readonly rounds: number
  readonly firstSeed: number
  /** Through three gateways that are neighbours; else two that are not. */
  readonly neighbours?: boolean
}

/** @returns how many rounds left no tree */
export async function runRenames({ rounds, firstSeed }: LongRun): Promise<number> {
  const renames = new CrossRenames()
  const faults = new Map<Fault, number>()
  let done = 0
  let refused = 0
  let failed = 0
  process.stdout.write(
    `${rounds} rounds of two processes that rename directories across each other, from seed ${firstSeed}\n`,
  )
  try {
    await renames.start()
    for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
      // Every other round without faults: then they meet more often.
      const result = await renames.run({ seed, renames: RENAMES_A_ROUND, faults: seed % 2 === 0 ? 2 : 0 }).catch(tell)
      if (result === undefined) {
        failed++
        continue
      }
      done += result.done
      for (const count of Object.values(result.refused)) refused += count
      for (const fault of result.faults) faults.set(fault, (faults.get(fault) ?? 0) + 1)
    }
  } finally {
    await renames.end()
  }
  tellFaults(faults)
  process.stdout.write(
    `${done} renames done, ${refused} refused\n${rounds - failed} rounds passed, ${failed} rejected\n`,
  )
  return failed
}

function tell(error: unknown): undefined {
  process.stdout.write(`${(error as Error).message}\n`)
}

function tellFaults(faults: ReadonlyMap<Fault, number>): void {
  for (const [fault, count] of [...faults].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    process.stdout.write(`${String(count).padStart(5)} ${fault}\n`)
}

/** @returns how many rounds were rejected, or came to no verdict */
export async function runShared({ rounds, firstSeed, neighbours = false }: LongRun): Promise<number> {
  const shared = new SharedRounds({ neighbours })
  const totals = { operations: 0, unknown: 0, notDone: 0, configurations: 0 }
  const faults = new Map<Fault, number>()
  let failed = 0
  const gateways = neighbours ? 'three neighbours' : 'two gateways'
  process.stdout.write(`${rounds} rounds through ${gateways} over three members of etcd, from seed ${firstSeed}\n`)
  try {
    await shared.start()
    for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
      try {
        const result = await shared.run({ seed, long: true })
        for (const name of ['operations', 'unknown', 'notDone', 'configurations'] as const) totals[name] += result[name]
        for (const fault of result.faults) faults.set(fault, (faults.get(fault) ?? 0) + 1)
        process.stdout.write(`${seed}: ${JSON.stringify(result)}\n`)
      } catch (error) {
        failed++
        const again = `--${neighbours ? 'neighbours' : 'shared'} --rounds 1 --seed ${seed}`
        process.stdout.write(`${(error as Error).message}\nsame choices with: npm run linearizability -- ${again}\n`)
      }
    }
  } finally {
    await shared.end()
  }
  tellFaults(faults)
  process.stdout.write(
    `${totals.operations} operations, ${totals.unknown} of unknown outcome, ${totals.notDone} refused as not done, ` +
      `${totals.configurations} configurations looked at\n${rounds - failed} rounds passed, ${failed} rejected\n`,
  )
  return failed
}
