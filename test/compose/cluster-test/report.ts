/** What the faults did to clients, as a table and in one line. */
import { table } from '../../../src/cli/table.ts'
import type { ProbeCounts } from './probes.ts'

export interface FaultRow {
  readonly fault: string
  readonly on: string
  /** Nodes that it befalls. */
  readonly there: readonly number[]
  readonly operations: number
  readonly probes: ProbeCounts
  readonly lastedMs: number
  /** From the end of the fault until all was as safe as it is to be. */
  readonly healedMs: number
}

export interface Violations {
  /** Acknowledged writes that are not there. */
  readonly lost: string[]
  readonly stale: string[]
  readonly wrongListings: string[]
  /** Histories of which the checker could not tell in its bounds. */
  readonly undecided: string[]
  /** Answers that no client may get, and faults that did not heal. */
  readonly unexpected: string[]
}

export interface ClusterTestResult extends Violations {
  readonly seed: number
  readonly rows: readonly FaultRow[]
  readonly operations: number
  readonly acknowledged: number
  /** How often a key was held against what may be there. */
  readonly readBack: number
  readonly histories: number
  /** Of clients that retry. */
  readonly errorsWithRetries: number
}

export function tableText(rows: readonly FaultRow[]): string {
  const head = [
    'FAULT',
    'ON',
    'LASTED',
    'OPERATIONS',
    'ERRORS, NO RETRY',
    'ERRORS, RETRIES',
    'LONGEST STALL ELSEWHERE',
    'LONGEST STALL THERE',
    'HEALED AFTER',
  ]
  return table([
    head,
    ...rows.map(({ fault, on, there, operations, probes, lastedMs, healedMs }) => [
      fault,
      on,
      seconds(lastedMs),
      String(operations),
      String(sum(probes.errors)),
      String(sum(probes.errorsWithRetries)),
      stall(probes.stallMs.filter((_, node) => !there.includes(node))),
      stall(probes.stallMs.filter((_, node) => there.includes(node))),
      seconds(healedMs),
    ]),
  ])
}

export function summaryText(result: ClusterTestResult): string {
  const { rows, operations, acknowledged, readBack, histories, lost, stale, wrongListings } = result
  const { unexpected, undecided } = result
  const more = [
    ...(unexpected.length > 0 ? [`${unexpected.length} unexpected answers`] : []),
    ...(undecided.length > 0 ? [`${undecided.length} undecided histories`] : []),
  ]
  return [
    `cluster test: ${rows.filter(({ there }) => there.length > 0).length} faults`,
    `${operations} operations`,
    `${histories} histories`,
    `${acknowledged} acknowledged writes`,
    `keys read back ${readBack} times`,
    `${lost.length} lost`,
    `${stale.length} stale`,
    `${wrongListings.length} wrong listings`,
    ...more,
  ].join(', ')
}

export function countViolations(violations: Violations): number {
  const { lost, stale, wrongListings, undecided, unexpected } = violations
  return sum([lost, stale, wrongListings, undecided, unexpected].map(({ length }) => length))
}

export function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0)
}

function stall(ms: readonly number[]): string {
  return ms.length === 0 ? '-' : `${Math.round(Math.max(...ms))} ms`
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}
