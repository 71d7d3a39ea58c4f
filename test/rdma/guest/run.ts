/**
 * `npm run rdma-test [-- --short] [FILE...]`: the fabric's tests by `verbs`, over Soft-RoCE in a guest, from a machine that has nothing of it. `--short`: those that `npm test` runs
 * there as well.
 */
import { parseArgs } from 'node:util'
import { summaryLine } from '../../support/run-command.ts'
import { ALL_FILES, runGuestTests, SHORT_FILES } from './guest-tests.ts'
import { guestFiles } from './kernel.ts'
import { installPrograms } from './programs.ts'

const DEADLINE_MS = 900_000

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { short: { type: 'boolean', default: false } },
})
const files = positionals.length > 0 ? positionals : values.short ? SHORT_FILES : ALL_FILES
const startedMs = performance.now()
const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`

try {
  await installPrograms()
  await guestFiles()
  console.log(`the guest's files are there after ${seconds(performance.now() - startedMs)}`)
  const result = await runGuestTests({ files, deadlineMs: DEADLINE_MS, onLine: (line) => console.log(`| ${line}`) })
  const failed = result.tests.filter(({ isPassed }) => !isPassed)
  console.log(`${result.guest.isEmulated ? 'emulated' : 'virtual'} guest, up after ${seconds(result.guest.bootMs)}`)
  for (const { file, passed, durationMs, ...counts } of result.files)
    console.log(`${file}: ${passed} passed, ${counts.failed} failed, ${seconds(durationMs)}`)
  for (const { name, messages } of failed) console.log(`FAILED ${name}\n${messages.join('\n')}`)
  if (result.failure !== undefined) console.log(`FAILED ${result.failure}`)
  console.log(`all in ${seconds(performance.now() - startedMs)}`)
  finish(result.tests.length - failed.length, failed.length + (result.failure === undefined ? 0 : 1))
} catch (error) {
  console.log(`FAILED ${(error as Error).message}`)
  finish(0, 1)
}

function finish(passed: number, failed: number): void {
  console.log(summaryLine({ passed, failed, skipped: 0 }))
  process.exitCode = failed === 0 ? 0 : 1
}
