/** `npm run write-behind-disaster -- [--rounds N] [--seconds N]`: the loss of a node, in its long form. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { testSeed } from '../../model/random.ts'
import { startRemote } from '../remote/remote-target.ts'
import { runDisaster, runRebuild } from './disaster.ts'

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '10' } },
})
const rounds = Number(values.rounds)
const firstSeed = testSeed()
let passed = 0
let failed = 0
for (const kind of ['external', 'tidegate'] as const) {
  const remote = await startRemote(kind)
  try {
    for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
      const onStep = (step: string): void => void process.stdout.write(`  ${step}\n`)
      let directory = ''
      try {
        for (const run of [runDisaster, runRebuild]) {
          directory = await mkdtemp(join(tmpdir(), 'tidegate-disaster-'))
          const options = { seed, directory, remote, loadMs: Number(values.seconds) * 1000, onStep }
          process.stdout.write(
            `${run === runDisaster ? 'a lost node' : 'a lost node without names'}, over ${remote.name}\n`,
          )
          const { acknowledged, compared } = await run(options)
          process.stdout.write(
            `  ${acknowledged} writes acknowledged, ${compared} keys compared byte by byte, lost 0\n`,
          )
          await rm(directory, { recursive: true })
        }
        passed++
      } catch (error) {
        failed++
        process.stdout.write(`seed ${seed}: ${(error as Error).stack}\nleft for a look: ${directory}\n`)
      }
    }
  } finally {
    await remote.stop()
  }
}
process.stdout.write(`${passed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 ? 0 : 1
