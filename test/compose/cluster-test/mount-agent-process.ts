/**
 * Works in a mount, inside of a node's container: handed to `node -e` there, with its plan on standard input. Tells of each operation in a line once it is
 * over, so what it was doing when its node was killed is not told. It needs nothing but node.
 */
import { hash } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

/** A file of a name has the line so many times. */
interface PlannedWrite {
  readonly kind: 'write'
  readonly name: string
  /** Written here first. */
  readonly temporary: string
  readonly line: string
  readonly lines: number
}

interface PlannedRead {
  readonly kind: 'read'
  readonly name: string
}

/** Everything below a directory, each file read. */
interface PlannedSurvey {
  readonly kind: 'survey'
  readonly name: string
}

export type PlannedOperation = PlannedWrite | PlannedRead | PlannedSurvey

export interface AgentPlan {
  readonly directory: string
  readonly operations: readonly PlannedOperation[]
  readonly pauseMs: number
  /** Ends then, whatever hangs. */
  readonly withinMs: number
}

export interface AgentReport {
  /** Place of the operation in the plan. */
  readonly index: number
  /** By the kernel's monotonic clock, which all containers share. */
  readonly startedMs: number
  readonly endedMs: number
  /** Code of the error. */
  readonly trouble?: string
  /** Of what was read: digest by name. */
  readonly contents?: Readonly<Record<string, string | null>>
}

/** What Linux says of such a file system. While nothing is mounted there, the directory must stay as it is. */
const FUSE = 0x65735546

const plan = JSON.parse(await text(process.stdin)) as AgentPlan
// What hangs in the mount cannot be called off; the process can be ended.
setTimeout(() => process.exit(3), plan.withinMs)
for (const [index, operation] of plan.operations.entries()) {
  const startedMs = nowMs()
  const done = await perform(operation).then(
    (contents) => ({ contents }),
    (error: unknown) => ({ trouble: codeOf(error) }),
  )
  process.stdout.write(`${JSON.stringify({ index, startedMs, endedMs: nowMs(), ...done } satisfies AgentReport)}\n`)
  await sleep(plan.pauseMs)
}
process.exit(0)

function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

/** The plan's directory is one of the mount. */
async function isMounted(): Promise<boolean> {
  return (await statfs(plan.directory)).type === FUSE
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? (error as Error).message
}

async function perform(operation: PlannedOperation): Promise<Record<string, string | null>> {
  if (!(await isMounted())) throw new Error('not mounted')
  switch (operation.kind) {
    case 'write':
      await write(operation)
      return {}
    case 'read':
      return { [operation.name]: await contentOf(operation.name) }
    case 'survey':
      return await survey(operation.name)
  }
}

/** As programs do that want a file to be there whole after a crash, or not at all. */
async function write({ name, temporary, line, lines }: PlannedWrite): Promise<void> {
  const [from, to] = [join(plan.directory, temporary), join(plan.directory, name)]
  await makeDirectory(dirname(temporary))
  await makeDirectory(dirname(name))
  const file = await open(from, 'w')
  try {
    await file.writeFile(line.repeat(lines))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(from, to)
  const directory = await open(dirname(to), 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** Below the plan's, which must be there: it is the mount's. */
async function makeDirectory(name: string): Promise<void> {
  const names = name.split('/')
  for (const depth of names.keys()) {
    const path = join(plan.directory, ...names.slice(0, depth + 1))
    await mkdir(path).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error
    })
  }
}

async function contentOf(name: string): Promise<string | null> {
  try {
    const bytes = await readFile(join(plan.directory, name))
    return `${bytes.length} bytes, SHA-256 ${hash('sha256', bytes, 'hex')}`
  } catch (error) {
    if (codeOf(error) === 'ENOENT' && (await isMounted())) return null
    throw error
  }
}

async function survey(name: string): Promise<Record<string, string | null>> {
  const contents: Record<string, string | null> = {}
  const entries = await readdir(join(plan.directory, name), { withFileTypes: true }).catch(async (error: unknown) => {
    if (codeOf(error) === 'ENOENT' && (await isMounted())) return []
    throw error
  })
  for (const entry of entries) {
    const path = `${name}/${entry.name}`
    if (entry.isDirectory()) Object.assign(contents, await survey(path))
    else contents[path] = await contentOf(path)
  }
  return contents
}
