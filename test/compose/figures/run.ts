/**
 * `npm run cluster-figures [-- --image TAG]`: how large the image is, how long the cluster of the compose file takes from nothing to its first `aws s3 cp`, and
 * what its containers take at rest. With DOCKER_HOST set it uses that engine.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { randomCredentials } from '../../support/gateway-process.ts'
import { REPOSITORY } from '../../support/run-command.ts'
import { startEngine, type Engine } from '../engine/engine.ts'
import { buildImage } from '../engine/images.ts'
import { ComposeProject } from '../project.ts'

const IMAGE = 'tidegate:figures'
const ROUNDS = 3
const REST_MS = 30_000
const UP_MS_MAX = 240_000
const AWS_MS_MAX = 60_000
const MIB = 2 ** 20
const PORTS = Object.fromEntries(
  ['N1', 'N2', 'N3'].flatMap((node) => [`${node}_S3_PORT`, `${node}_HTTP_PORT`].map((name) => [name, '0'])),
)

async function sizeOf(engine: Engine, image: string): Promise<number> {
  return Number(await engine.docker(['image', 'inspect', '--format', '{{.Size}}', image]))
}

/** Volumes, networks and containers are all made anew. @returns the time to the first `aws s3 cp` that succeeded, and the memory of each service at rest */
async function coldStart(engine: Engine, image: string, rest: boolean): Promise<{ ms: number; memory: string[] }> {
  const root = randomCredentials()
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-figures-'))
  const given = join(directory, 'given')
  writeFileSync(given, 'hello')
  const begunMs = performance.now()
  const project = await ComposeProject.up(engine, {
    name: `figures-${process.pid}`,
    files: [join(REPOSITORY, 'docker', 'compose.cluster.yml')],
    environment: {
      ...PORTS,
      TIDEGATE_IMAGE: image,
      TIDEGATE_BUCKETS: 'photos',
      TIDEGATE_ROOT_USER: root.accessKey,
      TIDEGATE_ROOT_PASSWORD: root.secretKey,
    },
    waitMs: UP_MS_MAX,
  })
  try {
    const endpoint = `http://${await (await project.container('n1')).published(9000)}`
    const env = {
      ...process.env,
      AWS_ACCESS_KEY_ID: root.accessKey,
      AWS_SECRET_ACCESS_KEY: root.secretKey,
      AWS_DEFAULT_REGION: 'us-east-1',
      AWS_CA_BUNDLE: '',
    }
    const command = ['--endpoint-url', endpoint, 's3', 'cp', '--quiet', given, 's3://photos/hello']
    await promisify(execFile)('aws', command, { env, timeout: AWS_MS_MAX })
    const ms = performance.now() - begunMs
    if (!rest) return { ms, memory: [] }
    await sleep(REST_MS)
    const ids = (await project.compose(['ps', '-q'])).split('\n').filter(Boolean)
    const shown = await engine.docker([
      'stats',
      '--no-stream',
      '--format',
      '{{.Name}} {{.MemUsage}} {{.CPUPerc}}',
      ...ids,
    ])
    return { ms, memory: shown.trim().split('\n').toSorted() }
  } finally {
    await project.down()
    rmSync(directory, { recursive: true })
  }
}

const { values } = parseArgs({ options: { image: { type: 'string' } } })
const engine = await startEngine()
try {
  const image = values.image ?? IMAGE
  if (values.image === undefined)
    await buildImage(engine, { tag: image, context: REPOSITORY, dockerfile: join(REPOSITORY, 'docker', 'Dockerfile') })
  const base = `node:${process.version.slice(1).split('.')[0]}-trixie-slim`
  const [size, baseSize] = [await sizeOf(engine, image), await sizeOf(engine, base)]
  console.log(
    `image: ${Math.round(size / MIB)} MiB, of which ${Math.round((size - baseSize) / MIB)} MiB beside its base ${base}`,
  )
  for (let round = 1; round <= ROUNDS; round++) {
    const { ms, memory } = await coldStart(engine, image, round === ROUNDS)
    console.log(
      `cold start ${round}: ${(ms / 1000).toFixed(1)} s from nothing to the first aws s3 cp, on ${cpus().length} CPUs`,
    )
    for (const line of memory) console.log(`at rest after ${REST_MS / 1000} s: ${line}`)
  }
} finally {
  await engine.end()
}
