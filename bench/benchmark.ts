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
  /**
   * A gateway, on an empty data directory unless one is named, with further flags of `serve` and further variables; stopped and removed
   * when the benchmark ends.
   */
  gateway(
    data?: string,
    flags?: readonly string[],
    environment?: Readonly<Record<string, string>>,
  ): Promise<GatewayProcess>
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
  /** Where `--rounds` says nothing; 5 unless told. */
  readonly rounds?: number
  run(context: BenchmarkContext): Promise<Measurement[]>
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}

/** Takes each of `measures` once a round, one after another, so that what disturbs the machine disturbs all of them. */
export async function takeTurns<Name extends string>(
  rounds: number,
  measures: Readonly<Record<Name, () => Promise<number>>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(measures) as Name[]
  const taken = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, number[]>
  for (let round = 0; round < rounds; round++) {
    for (const name of names) taken[name].push(await measures[name]())
  }
  return taken
}

/** The median of the rounds' ratios counts. */
export function compare(
  values: readonly number[],
  ceilings: readonly number[],
): { value: number; ceiling: number; ratio: number } {
  const ratios = values.map((value, round) => value / (ceilings[round] ?? Number.NaN))
  return { value: median(values), ceiling: median(ceilings), ratio: median(ratios) }
}

export async function interleave(
  rounds: number,
  measureValue: () => Promise<number>,
  measureCeiling: () => Promise<number>,
): Promise<{ value: number; ceiling: number; ratio: number }> {
  const { values, ceilings } = await takeTurns(rounds, { ceilings: measureCeiling, values: measureValue })
  return compare(values, ceilings)
}
