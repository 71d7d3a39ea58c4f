/**
 * Runs what a document says as it is written, section after section in one shell, with a copy of the repository as its working directory. Only names that two
 * runs on one machine would share are others: ports, the project's name, tags of images.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { REPOSITORY } from '../../support/run-command.ts'
import { execute, executed } from '../engine/command.ts'
import type { Engine } from '../engine/engine.ts'
import { sectionsOf, type Section } from './sections.ts'

const RUN_MS_MAX = 1_200_000
const DOWN_MS_MAX = 180_000
const MARK = '@@documented'
const OUTPUT_SHOWN = 6_000
const QUICKSTART = 'docs/quickstart-cluster.md'
/** What the image is made of, and the compose files. */
const COPIED = [
  'docker',
  'native',
  'src',
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'tsconfig.build.json',
  '.dockerignore',
]
const FILES = ['-f', 'docker/compose.cluster.yml', '-f', 'docker/compose.mount.yml']
/** As the compose file publishes them, and the documents say. */
const PORTS = {
  N1_S3_PORT: 9000,
  N1_HTTP_PORT: 9001,
  N2_S3_PORT: 9010,
  N2_HTTP_PORT: 9011,
  N3_S3_PORT: 9020,
  N3_HTTP_PORT: 9021,
} as const

/** After each section of a chapter: what was there before it can be read by every node, and each takes more. */
const STILL_SERVES = ['9000', '9010', '9020']
  .map(
    (port) => `
aws --endpoint-url http://127.0.0.1:${port} s3 cp s3://photos/2026/holiday.jpg copy.jpg
cmp holiday.jpg copy.jpg
aws --endpoint-url http://127.0.0.1:${port} s3 cp holiday.jpg s3://photos/after/${port}.jpg`,
  )
  .join('')

export interface Documented {
  /** Below the repository. */
  readonly file: string
  /** Its sections are run on a cluster that the quickstart has begun, and looked after each. Without it all sections of the document are run. */
  readonly chapter?: string
  /** Titles of those that are run, in the order of the document. */
  readonly only?: readonly string[]
}

export interface SectionResult {
  readonly title: string
  readonly seconds: number
  /** The end of what it wrote; nothing comes after it then. */
  readonly failure?: string
}

/** @returns what was run, the last one perhaps failed. Nothing of it is left on the engine. */
export async function runDocumented(engine: Engine, { file, chapter, only }: Documented): Promise<SectionResult[]> {
  const chosen = sectionsOf(file, chapter).filter(({ title }) => only === undefined || only.includes(title))
  const begun =
    chapter === undefined ? [] : sectionsOf(QUICKSTART).filter(({ title }) => ['Start', 'Use'].includes(title))
  const sections = [...begun, ...chosen].filter(({ commands }) => commands.length > 0)
  if (sections.length === begun.length) throw new Error(`${file} says nothing to run`)
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-documented-'))
  const project = `documented-${process.pid}-${directory.slice(-6).toLowerCase()}`
  const env = { ...engine.environment, AWS_CONFIG_FILE: '/dev/null', AWS_SHARED_CREDENTIALS_FILE: '/dev/null' }
  try {
    const renamed = await prepare(directory, project)
    for (const { path, text } of sections.flatMap(({ files }) => files)) {
      mkdirSync(dirname(join(directory, path)), { recursive: true })
      writeFileSync(join(directory, path), text)
    }
    writeFileSync(join(directory, 'commands.sh'), renamed(scriptOf(sections, chapter !== undefined)))
    const { code, stdout } = await execute(['bash', 'commands.sh'], { env, directory, timeoutMs: RUN_MS_MAX })
    return resultsOf(stdout, code)
  } finally {
    const down = ['compose', ...FILES, 'down', '-v', '--remove-orphans', '-t', '1']
    await execute(['docker', ...down], { env, directory, timeoutMs: DOWN_MS_MAX })
    for (const tag of ['local', 'next']) await engine.run(['image', 'rm', `${project}:${tag}`])
    rmSync(directory, { recursive: true, force: true })
  }
}

export function tableOf(results: readonly SectionResult[]): string {
  return results
    .map(
      ({ title, seconds, failure }) =>
        `${failure === undefined ? 'passed' : 'FAILED'}  ${seconds.toFixed(1).padStart(6)} s  ${title}`,
    )
    .join('\n')
}

/** Variables come from `docker/.env`, as the documents advise. @returns how the text is changed */
async function prepare(directory: string, project: string): Promise<(text: string) => string> {
  for (const path of COPIED)
    cpSync(join(REPOSITORY, path), join(directory, path), {
      recursive: true,
      filter: (from) => !/\/native\/[^/]+\/build$|\/docker\/\.env$/.test(from),
    })
  const device = join(directory, 'fuse')
  await executed(['mknod', '-m', '666', device, 'c', '10', '229'], {
    env: { PATH: process.env['PATH'] ?? '' },
    timeoutMs: DOWN_MS_MAX,
  })
  const names = Object.keys(PORTS)
  const free = await freePorts(names.length)
  const variables = {
    COMPOSE_PROJECT_NAME: project,
    TIDEGATE_FUSE_DEVICE: device,
    TIDEGATE_IMAGE: `${project}:local`,
    ...Object.fromEntries(names.map((name, index) => [name, free[index]])),
  }
  const lines = Object.entries(variables).map(([name, value]) => `${name}=${value}\n`)
  writeFileSync(join(directory, 'docker', '.env'), lines.join(''))
  return (text) =>
    Object.values(PORTS)
      .reduce((changed, port, index) => changed.replaceAll(`127.0.0.1:${port}`, `127.0.0.1:${free[index]}`), text)
      .replaceAll('tidegate-cluster_', `${project}_`)
      .replaceAll(/\btidegate:(local|next)\b/g, `${project}:$1`)
}

function scriptOf(sections: readonly Section[], isChapter: boolean): string {
  const begun = sections.map(
    ({ title, commands }) =>
      `{ echo "${MARK} $EPOCHREALTIME ${title}"; } 2> /dev/null\n${commands.join('\n')}\n${isChapter && title !== 'Start' ? STILL_SERVES : ''}`,
  )
  return `exec 2>&1\nset -eux -o pipefail\n${begun.join('\n')}\n{ echo "${MARK} $EPOCHREALTIME"; } 2> /dev/null\n`
}

function resultsOf(output: string, code: number): SectionResult[] {
  const marks = [...output.matchAll(new RegExp(`^${MARK} (\\d+)[.,](\\d+) ?(.*)$`, 'gm'))]
  const seconds = (index: number): number => Number(`${marks[index]?.[1]}.${marks[index]?.[2]}`)
  return marks.flatMap(([, , , title = ''], index) => {
    if (title === '') return []
    const isLast = index === marks.length - 1
    const tookSeconds = (isLast ? Date.now() / 1_000 : seconds(index + 1)) - seconds(index)
    const failure = isLast ? { failure: `ended with ${code}\n${output.slice(-OUTPUT_SHOWN)}` } : {}
    return [{ title, seconds: tookSeconds, ...failure }]
  })
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(0, '127.0.0.1', resolve)
      })
      return server
    }),
  )
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  for (const server of servers) server.close()
  return ports
}
