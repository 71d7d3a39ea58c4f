/**
 * `npm run check`: the one yes or no about the tree. Types, lint, format, layers and hygiene, dead code, unit tests; one
 * line for each, what went wrong below it, exit code 1 if anything did.
 *
 * `--without-unit` leaves the unit tests out. Only .ci/run uses it, because `npm test` has run them just before.
 */
import { availableParallelism } from 'node:os'
import { runCommand, summaryLine } from './support/run-command.ts'

interface Step {
  readonly name: string
  readonly command: readonly [string, ...string[]]
}

const STEP_TIMEOUT_MS = 600_000

const STEPS: readonly Step[] = [
  { name: 'unit', command: ['vitest', 'run', '--passWithNoTests', 'test/unit'] },
  { name: 'types', command: ['tsc', '-p', 'tsconfig.json'] },
  { name: 'lint', command: ['oxlint', '--type-aware', '--deny-warnings'] },
  { name: 'layers and hygiene', command: ['vitest', 'run', 'test/tidy'] },
  { name: 'dead code', command: ['knip', '--no-progress'] },
  { name: 'format', command: ['oxfmt', '--check', 'src', 'test', 'bench'] },
]

const withoutUnit = process.argv.includes('--without-unit')
const waiting = STEPS.filter((step) => !(withoutUnit && step.name === 'unit'))
let passed = 0
let failed = 0

async function work(): Promise<void> {
  for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
    const result = await runCommand(step.command, { show: false, timeoutMs: STEP_TIMEOUT_MS, env: { NO_COLOR: '1' } })
    const seconds = (result.durationMs / 1_000).toFixed(1)
    if (result.code === 0) passed += 1
    else failed += 1
    console.log(`${result.code === 0 ? 'ok    ' : 'FAILED'} ${step.name} (${seconds} s)`)
    if (result.code !== 0) console.log(result.output.trim().replaceAll(/^/gm, '       '))
  }
}

await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work))
console.log(summaryLine({ passed, failed, skipped: withoutUnit ? 1 : 0 }))
process.exitCode = failed === 0 ? 0 : 1
