/**
 * What a benchmark is: a name and a function that measures against a ceiling taken in the same run. Ratios count, since
 * absolutes depend on the machine and on what else it is doing.
 */
import type { BareServer } from './bare/bare.ts'
import type { Load } from './load/load.ts'
import type { GatewayProcess } from '../test/support/gateway-process.ts'

export interface Measurement {
  readonly name: string
  readonly value: number
  readonly unit: string
  /** In the same unit; null where there is nothing to compare with. */
  readonly ceiling: number | null
  readonly ratio: number | null
  /** What `ratio` should be, such as `>= 0.5`; null where none was set. */
  readonly aim: string | null
  /** How safe what was written was when it was acknowledged; `none` for reads. */
  readonly durability: string
}

export interface BenchmarkContext {
  readonly load: Load
  readonly bare: BareServer
  /** A gateway, on an empty data directory unless one is named; stopped and removed when the benchmark ends. */
  gateway(data?: string): Promise<GatewayProcess>
  /** A directory on the disk that the data directories lie on, removed when the benchmark ends. */
  readonly directory: string
  readonly rounds: number
  readonly seconds: number
  /** How many objects a large bucket has. */
  readonly objects: number
  note(text: string): void
}

export interface Benchmark {
  readonly name: string
  run(context: BenchmarkContext): Promise<Measurement[]>
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}

/** Takes value and ceiling in turn, so that what disturbs the machine disturbs both; the median of the ratios counts. */
export async function interleave(
  rounds: number,
  measureValue: () => Promise<number>,
  measureCeiling: () => Promise<number>,
): Promise<{ value: number; ceiling: number; ratio: number }> {
  const values: number[] = []
  const ceilings: number[] = []
  for (let round = 0; round < rounds; round++) {
    ceilings.push(await measureCeiling())
    values.push(await measureValue())
  }
  const ratios = values.map((value, round) => value / (ceilings[round] ?? Number.NaN))
  return { value: median(values), ceiling: median(ceilings), ratio: median(ratios) }
}
