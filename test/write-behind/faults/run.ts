/** `npm run write-behind-faults -- [--long] [--fault NAME]`: what the gateway does while its remote store, disk or clock fails it, as a table. */
import { parseArgs } from 'node:util'
import { testSeed } from '../../model/random.ts'
import { startExternalS3 } from '../../support/external-s3.ts'
import { table } from '../table.ts'
import { FAULT_CASES } from './cases.ts'
import { REPORT_HEADINGS, reportCells, runFault } from './fault-run.ts'

const { values } = parseArgs({
  options: { long: { type: 'boolean', default: false }, fault: { type: 'string', multiple: true } },
})
const seed = testSeed()
const chosen = FAULT_CASES.filter(({ name }) => values.fault === undefined || values.fault.includes(name))
const server = await startExternalS3()
const rows: (readonly string[])[] = [REPORT_HEADINGS]
const failures: string[] = []
let skipped = 0
try {
  for (const fault of chosen) {
    if (fault.ownDisk && process.getuid?.() !== 0) {
      skipped++
      continue
    }
    const seconds = values.long ? fault.seconds.long : fault.seconds.short
    process.stdout.write(`${fault.name}: ${seconds} s\n`)
    try {
      rows.push(reportCells(await runFault(fault, server, { seconds, seed })))
    } catch (error) {
      failures.push(`${fault.name} (seed ${seed}): ${(error as Error).stack}`)
    }
  }
} finally {
  await server.stop()
}
process.stdout.write(`over ${server.kind}, behind a proxy, writers and waiters at once\n${table(rows)}\n`)
for (const failure of failures) process.stdout.write(`${failure}\n`)
process.stdout.write(`${rows.length - 1} passed, ${failures.length} failed, ${skipped} skipped\n`)
process.exitCode = failures.length === 0 && chosen.length > 0 ? 0 : 1
