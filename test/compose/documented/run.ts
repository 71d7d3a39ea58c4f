/**
 * `npm run cluster-docs [-- --file DOCUMENT] [--only SECTION ...]`: does everything that docs/quickstart-cluster.md and the chapter "With Docker Compose" of docs/operating.md say, as
 * it is written there, and ends with 1 if a section fails. With DOCKER_HOST set it uses that engine.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { REPOSITORY } from '../../support/run-command.ts'
import { startEngine } from '../engine/engine.ts'
import { buildImage } from '../engine/images.ts'
import { runDocumented, tableOf, type Documented } from './documented.ts'

const IMAGE = 'tidegate:documented'
const DOCUMENTS: readonly Documented[] = [
  { file: 'docs/quickstart-cluster.md' },
  { file: 'docs/operating.md', chapter: 'With Docker Compose' },
]

const { values } = parseArgs({ options: { file: { type: 'string' }, only: { type: 'string', multiple: true } } })
const engine = await startEngine()
try {
  // So that what the text builds has a base image on a machine that can pull none, and takes the rest from the engine's cache.
  await buildImage(engine, { tag: IMAGE, context: REPOSITORY, dockerfile: join(REPOSITORY, 'docker', 'Dockerfile') })
  for (const document of DOCUMENTS.filter(({ file }) => values.file === undefined || values.file === file)) {
    const results = await runDocumented(
      engine,
      values.only === undefined ? document : { ...document, only: values.only },
    )
    const failed = results.find(({ failure }) => failure !== undefined)
    if (failed !== undefined) {
      console.log(failed.failure)
      process.exitCode = 1
    }
    console.log(`${document.file}\n${tableOf(results)}`)
  }
} finally {
  await engine.end()
}
