/**
 * Writers in the mount, SIGKILL of the gateway at a random moment, a new start, round after round: each file must be as its plan
 * (plans.ts) says after some step, one that was begun and none before the last that was synced. So nothing synced is lost, and nothing
 * is a mixture. (SIGKILL keeps the page cache of the data directory: what a power cut takes is the matter of the simulation.)
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Random } from '../../../model/random.ts'
import { startMounted, type MountedGateway } from '../../../support/mounted-gateway.ts'
import { Plan, PLAN_KINDS, stateLine } from './plans.ts'

export interface CrashOptions {
  readonly seed: number
  readonly rounds: number
  readonly onRound?: (round: { round: number; synced: number; begun: number; endedMs: number }) => void
}

const WRITER = fileURLToPath(new URL('crash-writer.ts', import.meta.url))
const BUCKET = 'crash'
const WRITERS = 3
/** Until all writers have begun. */
const READY_MS_MAX = 20_000
const LOAD_MS_MIN = 300
const LOAD_MS_MAX = 2500
/** From the end of the gateway to the end of all who were writing. */
const ENDED_MS_MAX = 10_000
/** Small segments and a short age, so that sealing, carrying away and reclaiming fall into a round. */
const FLAGS = ['--buckets', BUCKET, '--segment-age', '200ms', '--segment-size', '8MiB', '--cache-memory', '64MiB']

/** @returns steps that were synced and begun in all rounds. @throws Error naming the first file that is not as it may be */
export async function runCrashRounds(options: CrashOptions): Promise<{ synced: number; begun: number }> {
  const manifests = await mkdtemp(join(tmpdir(), 'tidegate-manifests-'))
  const mounted = await startMounted(FLAGS)
  const random = new Random(options.seed)
  const total = { synced: 0, begun: 0 }
  try {
    const found = new Map<string, string>()
    for (let round = 1; round <= options.rounds; round++) {
      const run = new Round(mounted, { round, seed: random.below(2 ** 30), manifests })
      const endedMs = await run.loadUntilKilled(LOAD_MS_MIN + random.below(LOAD_MS_MAX - LOAD_MS_MIN))
      await mounted.restart()
      const { synced, begun } = await run.check(found)
      total.synced += synced
      total.begun += begun
      options.onRound?.({ round, synced, begun, endedMs })
    }
    await checkEarlier(mounted, found)
    return total
  } finally {
    await mounted.stop()
    await rm(manifests, { recursive: true })
  }
}

/** Later crashes have left alone what was found after earlier ones. */
async function checkEarlier(mounted: MountedGateway, found: ReadonlyMap<string, string>): Promise<void> {
  for (const [directory, lines] of found) {
    const now = await linesIn(mounted, directory)
    if (now !== lines) throw new Error(`${directory} has changed since it was checked:\n${lines}became\n${now}`)
  }
}

/** A line for each file, sorted. What was under way beside a file does not count. */
async function linesIn(mounted: MountedGateway, directory: string): Promise<string> {
  const script = `cd ${directory}; find left right -type f ! -name '*.new' | sort | while read -r f; do
    echo "$f $(stat -c %s "$f") $(sha1sum < "$f" | cut -d ' ' -f 1)"; done`
  const { stdout, stderr, code } = await mounted.shell(script, BUCKET)
  if (code !== 0 || stderr !== '') throw new Error(`${directory} cannot be read: ${stderr}`)
  return stdout
}

class Round {
  readonly #mounted: MountedGateway
  readonly #name: string
  readonly #seed: number
  readonly #manifests: string

  constructor(
    mounted: MountedGateway,
    { round, seed, manifests }: { readonly round: number; readonly seed: number; readonly manifests: string },
  ) {
    this.#mounted = mounted
    this.#name = `round-${round}`
    this.#seed = seed
    this.#manifests = manifests
  }

  #directory(writer: number): string {
    return `${this.#name}-writer-${writer}`
  }

  #manifest(writer: number): string {
    return join(this.#manifests, this.#directory(writer))
  }

  #seedOf(writer: number): number {
    return this.#seed + writer * PLAN_KINDS.length
  }

  /** @returns how long the writers took to notice */
  async loadUntilKilled(loadMs: number): Promise<number> {
    const { mountPoint, gateway } = this.#mounted
    const writers = Array.from({ length: WRITERS }, (_, writer) => writer)
    const directories = writers.map((writer) => this.#directory(writer)).join(' ')
    const made = await this.#mounted.shell(`mkdir ${directories}`, BUCKET)
    if (made.code !== 0) throw new Error(`mkdir has failed: ${made.stderr}`)
    const children = writers.map((writer) => {
      const directory = join(mountPoint, BUCKET, this.#directory(writer))
      const arguments_ = [WRITER, directory, this.#manifest(writer), String(this.#seedOf(writer))]
      return spawn(process.execPath, arguments_, { stdio: ['ignore', 'pipe', 'inherit'] })
    })
    const ends = Promise.all(children.map((child) => once(child, 'exit') as Promise<[number | null]>))
    const ready = Promise.all(children.map((child) => once(child.stdout, 'data')))
    const early = Promise.race(children.map((child) => once(child, 'exit')))
    await Promise.race([ready, early, sleep(READY_MS_MAX)])
    await Promise.race([early, sleep(loadMs)])
    const { exitCode, signalCode } = gateway.child
    const endedEarly = children.filter((child) => child.exitCode !== null || child.signalCode !== null).length
    await gateway.kill()
    const killedMs = Date.now()
    const codes = await Promise.race([ends, sleep(ENDED_MS_MAX)])
    for (const child of children) child.kill('SIGKILL')
    // The writers take an error for the end of the gateway: before that it is an error of the gateway's.
    if (exitCode !== null || signalCode !== null) {
      throw new Error(`the gateway ended by ${exitCode ?? signalCode} before it was killed (seed ${this.#seed})`)
    }
    if (endedEarly > 0)
      throw new Error(`writers that ended before the gateway was killed: ${endedEarly} (seed ${this.#seed})`)
    if (!codes) throw new Error(`a writer has not ended ${ENDED_MS_MAX} ms after the gateway`)
    const wrong = codes.find(([code]) => code !== 0)
    if (wrong) throw new Error(`a writer has failed with ${wrong[0]} (seed ${this.#seed})`)
    return Date.now() - killedMs
  }

  async check(found: Map<string, string>): Promise<{ synced: number; begun: number }> {
    const total = { synced: 0, begun: 0 }
    for (let writer = 0; writer < WRITERS; writer++) {
      const lines = await linesIn(this.#mounted, this.#directory(writer))
      const steps = readManifest(await readFile(this.#manifest(writer), 'utf8'))
      for (const [index, kind] of PLAN_KINDS.entries()) {
        const plan = new Plan(kind, this.#seedOf(writer) + index)
        const { synced, begun } = steps.get(plan.name) ?? { synced: -1, begun: 0 }
        // The writer had not even begun.
        if (synced < 0) continue
        checkPlan(plan, lines, { synced, begun, where: this.#directory(writer) })
        total.synced += synced
        total.begun += begun
      }
      found.set(this.#directory(writer), lines)
    }
    return total
  }
}

function readManifest(manifest: string): Map<string, { synced: number; begun: number }> {
  const steps = new Map<string, { synced: number; begun: number }>()
  for (const line of manifest.split('\n').slice(0, -1)) {
    const [word, name = '', step] = line.split(' ')
    const known = steps.get(name) ?? { synced: 0, begun: 0 }
    if (word === 'synced') known.synced = Number(step)
    else known.begun = Number(step)
    steps.set(name, known)
  }
  return steps
}

function checkPlan(
  plan: Plan,
  lines: string,
  { synced, begun, where }: { readonly synced: number; readonly begun: number; readonly where: string },
): void {
  const own = lines.split('\n').filter((line) => line.split(' ')[0]?.endsWith(`/${plan.name}`))
  const found = own.join(' and ') || stateLine(undefined)
  const allowed: string[] = []
  for (let step = 0; step <= begun; step++) {
    if (step > 0) plan.next()
    if (step >= synced) allowed.push(stateLine(plan.state))
  }
  if (allowed.includes(found)) return
  throw new Error(
    `${where}: ${plan.name} is ${found}; it was synced at step ${synced}, begun until ${begun}:\n${allowed.join('\n')}`,
  )
}
