/**
 * `npm run cluster-test -- [--faults NAME,NAME] [--rounds N] [--seed S] [--short] [--image TAG]`: the cluster of the compose files under load and faults.
 * The image is built first, unless one is named. With DOCKER_HOST set it uses that engine, else one of its own.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { REPOSITORY } from '../../support/run-command.ts'
import { startEngine } from '../engine/engine.ts'
import { buildImage } from '../engine/images.ts'
import { FAULT_NAMES, type FaultName } from '../faults/catalogue.ts'
import { runClusterTest } from './cluster-test.ts'
import { countViolations, summaryText, tableText } from './report.ts'

const IMAGE = 'tidegate:cluster-test'

const { values } = parseArgs({
  options: {
    faults: { type: 'string' },
    rounds: { type: 'string', default: '1' },
    seed: { type: 'string' },
    short: { type: 'boolean', default: false },
    image: { type: 'string' },
  },
})
const faults = values.faults?.split(',').map((wanted) => {
  const name = FAULT_NAMES.find((known) => known === wanted.trim())
  if (name === undefined) throw new Error(`no such fault: ${wanted}; there are ${FAULT_NAMES.join(', ')}`)
  return name satisfies FaultName
})
const seed = Number(values.seed ?? Date.now() % 2 ** 31)
const startedMs = performance.now()

function say(text: string): void {
  process.stdout.write(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(7)} ${text}\n`)
}

const engine = await startEngine()
try {
  say(`seed ${seed}; the engine is up`)
  const image = values.image ?? IMAGE
  if (values.image === undefined) {
    await buildImage(engine, { tag: image, context: REPOSITORY, dockerfile: join(REPOSITORY, 'docker/Dockerfile') })
    say('the image is built')
  }
  const { rounds, short } = values
  const result = await runClusterTest(engine, { seed, faults, rounds: Number(rounds), short, image, onStep: say })
  const violations = countViolations(result)
  if (violations > 0) say(`${violations} violations; again with --seed ${seed}`)
  process.stdout.write(`\n${tableText(result.rows)}\n${summaryText(result)}\n`)
  process.exitCode = violations === 0 && result.rows.length > 1 ? 0 : 1
} finally {
  await engine.end()
}
