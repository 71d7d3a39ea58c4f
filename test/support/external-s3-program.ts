/**
 * An S3 server that is not ours, for tests and the benchmark: versitygw (Go, objects are files, so it survives being
 * killed) or else moto (Python, objects in memory). Neither comes from npm, so the first one asked for is built or installed
 * here, once, into a folder outside of the repository:
 *
 *     $XDG_CACHE_HOME/tidegate-tools, else TMP/tidegate-tools-<uid>
 *       versitygw-<version>/versitygw
 *       moto-<version>/bin/moto_server
 *
 * It is made under a name of its own and then renamed, so what has its name is whole; of several processes that want it at the
 * same time one makes it and the others wait.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runCommand } from './run-command.ts'

export type ExternalS3Kind = 'versitygw' | 'moto'

export interface ExternalS3Program {
  readonly kind: ExternalS3Kind
  readonly path: string
}

interface Recipe {
  readonly version: string
  /** In the folder that `install` fills. */
  readonly program: string
  /** What the machine must have. */
  readonly tool: 'go' | 'python3'
  readonly debian: string
  /** Commands that fill `folder`. A name is taken from it as soon as they have all succeeded. */
  readonly install: (folder: string, tool: string) => readonly (readonly [string, ...string[]])[]
  readonly environment: (folder: string) => Readonly<Record<string, string>>
}

/** The first is preferred: it keeps objects in files and is the faster one. */
const RECIPES: Readonly<Record<ExternalS3Kind, Recipe>> = {
  versitygw: {
    version: '1.8.0',
    program: 'versitygw',
    tool: 'go',
    debian: 'golang-go',
    install: (_folder, go) => [[go, 'install', 'github.com/versity/versitygw/cmd/versitygw@v1.8.0']],
    environment: (folder) => ({ GOBIN: folder, GOFLAGS: '-trimpath' }),
  },
  moto: {
    version: '5.2.5',
    program: join('bin', 'moto_server'),
    tool: 'python3',
    debian: 'python3-venv',
    install: (folder, python) => [
      [python, '-m', 'venv', folder],
      [join(folder, 'bin', 'pip'), 'install', '--quiet', 'moto[server]==5.2.5'],
    ],
    environment: () => ({}),
  },
}
const INSTALL_TIMEOUT_MS = 900_000
const INSTALL_POLL_MS = 500
/** Where Go's own installer puts it, which no PATH need name. */
const TOOL_PLACES = ['/usr/local/go/bin', '/usr/local/bin', '/usr/bin']

const CACHE = process.env['XDG_CACHE_HOME']
  ? join(process.env['XDG_CACHE_HOME'], 'tidegate-tools')
  : join(tmpdir(), `tidegate-tools-${process.getuid?.() ?? 0}`)

/**
 * Finds a server, or installs one. `kind` asks for that one only; TIDEGATE_TEST_EXTERNAL_S3=moto says it from outside.
 * @throws Error that says what to install
 */
export async function findExternalS3(kind?: ExternalS3Kind): Promise<ExternalS3Program> {
  const wanted = kind ?? wantedFromOutside()
  const failures: string[] = []
  for (const one of wanted === undefined ? (['versitygw', 'moto'] as const) : [wanted]) {
    const found = await installed(one)
    if (typeof found !== 'string') return found
    failures.push(found)
  }
  throw new Error(`no S3 server to test against: ${failures.join('; ')}`)
}

/**
 * Why there is no S3 server but ours to test against, for `describe.skipIf`. Undefined when there is one, and with CI=true,
 * where everything runs, and what cannot fails.
 */
export async function externalS3Lack(kind?: ExternalS3Kind): Promise<string | undefined> {
  if (process.env['CI'] === 'true') return undefined
  const lack = await findExternalS3(kind).then(
    () => undefined,
    (error: Error) => error.message,
  )
  if (lack !== undefined) console.log(`skipped: ${lack}`)
  return lack
}

function wantedFromOutside(): ExternalS3Kind | undefined {
  const text = process.env['TIDEGATE_TEST_EXTERNAL_S3'] ?? ''
  if (text === '' || text === 'versitygw' || text === 'moto') return text === '' ? undefined : text
  throw new Error(`TIDEGATE_TEST_EXTERNAL_S3 is ${text}, which is neither versitygw nor moto`)
}

/** The program, or why there is none. */
async function installed(kind: ExternalS3Kind): Promise<ExternalS3Program | string> {
  const recipe = RECIPES[kind]
  const folder = join(CACHE, `${kind}-${recipe.version}`)
  const path = join(folder, recipe.program)
  if (existsSync(path)) return { kind, path }
  const tool = findTool(recipe.tool)
  if (tool === undefined) return `${kind} needs ${recipe.tool} (on Debian or Ubuntu: apt-get install ${recipe.debian})`
  mkdirSync(CACHE, { recursive: true, mode: 0o700 })
  const lock = join(CACHE, `${kind}-${recipe.version}.installing`)
  for (const deadlineMs = Date.now() + INSTALL_TIMEOUT_MS; !takeLock(lock);) {
    if (Date.now() > deadlineMs) return `${kind} is being installed by another process that does not finish (${lock})`
    await sleep(INSTALL_POLL_MS)
  }
  try {
    if (existsSync(path)) return { kind, path }
    const failure = await install(recipe, folder, tool)
    return failure === undefined ? { kind, path } : `${kind} could not be installed: ${failure}`
  } finally {
    rmSync(lock, { force: true })
  }
}

/** Undefined once `folder` is there. */
async function install(recipe: Recipe, folder: string, tool: string): Promise<string | undefined> {
  // A virtual environment cannot be moved (its scripts name their interpreter): that one is made in its place, and taken
  // for whole once its program is there, which comes last.
  const movable = recipe.tool === 'go'
  const target = movable ? `${folder}.${process.pid}` : folder
  rmSync(target, { recursive: true, force: true })
  console.log(`installing ${folder}`)
  for (const command of recipe.install(target, tool)) {
    const env = recipe.environment(target)
    const result = await runCommand(command, { show: false, timeoutMs: INSTALL_TIMEOUT_MS, env })
    if (result.code === 0) continue
    rmSync(target, { recursive: true, force: true })
    return `${command.join(' ')}: ${result.output.trim().slice(-500)}`
  }
  if (movable) renameSync(target, folder)
  return undefined
}

function findTool(name: string): string | undefined {
  const places = [...(process.env['PATH'] ?? '').split(delimiter), ...TOOL_PLACES]
  return places.map((place) => join(place, name)).find((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
}

/** A lock of a process that is gone is nobody's. */
function takeLock(path: string): boolean {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' })
    return true
  } catch {
    const owner = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0
    if (owner > 0 && !isAlive(owner)) rmSync(path, { force: true })
    return false
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
