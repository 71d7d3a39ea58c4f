/** `npm run cluster-upgrade [-- --seed S]`: from the image of the commit before to that of this one, under load. With DOCKER_HOST set it uses that engine. */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { REPOSITORY } from '../../support/run-command.ts'
import { startEngine } from '../engine/engine.ts'
import { buildImage } from '../engine/images.ts'
import { runUpgrade } from './upgrade.ts'

const IMAGE = 'tidegate:next'

const { values } = parseArgs({ options: { seed: { type: 'string' } } })
const seed = Number(values.seed ?? Date.now() % 2 ** 31)
const startedMs = performance.now()

function say(text: string): void {
  process.stdout.write(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(7)} ${text}\n`)
}

const engine = await startEngine()
try {
  await buildImage(engine, { tag: IMAGE, context: REPOSITORY, dockerfile: join(REPOSITORY, 'docker', 'Dockerfile') })
  say(`seed ${seed}; the image of this commit is built`)
  const result = await runUpgrade(engine, { image: IMAGE, seed, onStep: say })
  for (const line of [...result.lost, ...result.stale]) say(line)
  const seconds = result.nodesMs.map((ms) => (ms / 1000).toFixed(1)).join(', ')
  process.stdout.write(
    `rolling upgrade from ${result.from}: nodes after ${seconds} s, ${result.probes} probes, ${result.errorsWithoutRetries} errors without retries (longest ` +
      `stall ${Math.round(result.stallMs)} ms), ${result.errorsWithRetries} with retries, ${result.acknowledged} acknowledged writes read back ` +
      `${result.readBack} times, ${result.lost.length} lost, ${result.stale.length} stale\n`,
  )
  const isGood = result.errorsWithRetries + result.lost.length + result.stale.length === 0 && result.acknowledged > 0
  process.exitCode = isGood ? 0 : 1
} finally {
  await engine.end()
}
