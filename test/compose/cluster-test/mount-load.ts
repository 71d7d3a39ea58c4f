/**
 * Programs in the mounts of all nodes, run inside of their containers: each writes files of its own, and reads what the other nodes write. What was written is
 * acknowledged once the file is synced, has its name, and the directory is synced.
 *
 * A file whose write has an unknown outcome is not written again: the program may hang in a mount that goes on later.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { must } from '../../../src/common/assert.ts'
import type { Random } from '../../model/random.ts'
import { digest, type Attempt, type Ledger } from '../../write-behind/load/ledger.ts'
import type { Container } from '../project.ts'
import type { AgentPlan, AgentReport, PlannedOperation } from './mount-agent-process.ts'
import { staleReads, type MountRead, type MountWrite } from '../../linearizability/close-to-open.ts'

export const MOUNT_POINT = '/mnt/tidegate'
const AGENT = readFileSync(new URL('./mount-agent-process.ts', import.meta.url), 'utf8')
const FILES = 4
const OPERATIONS = 24
const WRITE_SHARE = 0.4
const PAUSE_MS = 60
const BATCH_MS_MAX = 20_000
/** Starting the program takes a while too. */
const EXEC_MS_MAX = BATCH_MS_MAX + 10_000
const AFTER_FAILURE_MS = 1_000
const BETWEEN_MS = 200
const LINES_MAX = 6_000

export interface MountCounts {
  acknowledged: number
  read: number
  unknown: number
  /** By code. */
  readonly troubles: Map<string, number>
}

interface MountLoadOptions {
  readonly nodes: readonly Container[]
  readonly bucket: string
  readonly ledger: Ledger
  readonly random: Random
}

/** Runs a plan in the container's mount. @returns what was told, however it ended */
export async function runAgent(
  container: Container,
  plan: Omit<AgentPlan, 'directory'> & { readonly bucket: string },
): Promise<AgentReport[]> {
  const { bucket, ...rest } = plan
  const input = JSON.stringify({ directory: `${MOUNT_POINT}/${bucket}`, ...rest } satisfies AgentPlan)
  const timeoutMs = plan.withinMs + EXEC_MS_MAX - BATCH_MS_MAX
  const argv = ['node', '--input-type=module-typescript', '-e', AGENT]
  const { stdout } = await container.exec(argv, { input, timeoutMs }).catch(() => ({ stdout: '' }))
  // The last line may be cut off.
  const lines = stdout.split('\n').slice(0, -1)
  return lines.map((line) => JSON.parse(line) as AgentReport)
}

export class MountLoad {
  readonly #options: MountLoadOptions
  /** By name, of those files that are still written. */
  readonly #writes = new Map<string, MountWrite[]>()
  readonly #files: string[][]
  #reads: MountRead[] = []
  #named = 0
  #written = 0
  readonly counts: MountCounts = { acknowledged: 0, read: 0, unknown: 0, troubles: new Map() }

  constructor(options: MountLoadOptions) {
    this.#options = options
    this.#files = options.nodes.map(({ service }) => Array.from({ length: FILES }, () => this.#newName(service)))
  }

  /** Until the signal aborts. @returns in words, each stale read */
  async run(signal: AbortSignal): Promise<readonly string[]> {
    await Promise.all(this.#options.nodes.map((_, node) => this.#runNode(node, signal)))
    const stale = staleReads(this.#writes, this.#reads)
    this.#reads = []
    return stale
  }

  async #runNode(node: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const before = this.counts.acknowledged + this.counts.read
      await this.#batch(node)
      await sleep(this.counts.acknowledged + this.counts.read > before ? BETWEEN_MS : AFTER_FAILURE_MS)
    }
  }

  async #batch(node: number): Promise<void> {
    const { bucket, random, ledger, nodes } = this.#options
    const container = must(nodes[node], 'a node')
    const files = must(this.#files[node], 'its files')
    const begunMs = monotonicMs()
    const planned = Array.from({ length: OPERATIONS }, () =>
      random.chance(WRITE_SHARE) ? this.#planWrite(node) : this.#planRead(node),
    )
    const pending = new Map<number, { readonly attempt: Attempt; readonly write: MountWrite; readonly name: string }>()
    for (const [index, { name, content }] of planned.entries()) {
      if (content === undefined) continue
      const write: MountWrite = { content, startedMs: begunMs, acknowledgedMs: undefined }
      this.#writesOf(name).push(write)
      pending.set(index, { attempt: ledger.begin(name, content), write, name })
    }
    const operations = planned.map(({ operation }) => operation)
    for (const report of await runAgent(container, { bucket, operations, pauseMs: PAUSE_MS, withinMs: BATCH_MS_MAX })) {
      if (report.trouble !== undefined) {
        this.counts.troubles.set(report.trouble, (this.counts.troubles.get(report.trouble) ?? 0) + 1)
        continue
      }
      const write = pending.get(report.index)
      if (write === undefined) this.#noteReads(container.service, report)
      else {
        pending.delete(report.index)
        write.write.acknowledgedMs = report.endedMs
        write.attempt.acknowledged('journal')
        this.counts.acknowledged++
      }
    }
    this.counts.unknown += pending.size
    const retired = new Set([...pending.values()].map(({ name }) => name))
    for (const [place, name] of files.entries()) if (retired.has(name)) files[place] = this.#newName(container.service)
  }

  #planWrite(node: number): Planned {
    const { random, nodes } = this.#options
    const name = random.pick(must(this.#files[node], 'its files'))
    const number = this.#written++
    const line = `${name} ${number}\n`
    const lines = 1 + random.below(random.chance(0.2) ? LINES_MAX : 100)
    const temporary = `temporary/${must(nodes[node], 'a node').service}/${number}`
    const content = digest(Buffer.from(line.repeat(lines)))
    return { name, content, operation: { kind: 'write', name, temporary, line, lines } }
  }

  #planRead(node: number): Planned {
    const others = this.#files.filter((_, other) => other !== node).flat()
    const name = this.#options.random.pick(others)
    return { name, content: undefined, operation: { kind: 'read', name } }
  }

  #noteReads(by: string, { startedMs, endedMs, contents = {} }: AgentReport): void {
    for (const [name, content] of Object.entries(contents)) {
      this.counts.read++
      this.#reads.push({ name, by, startedMs, endedMs, content: content ?? undefined })
    }
  }

  #writesOf(name: string): MountWrite[] {
    const writes = this.#writes.get(name) ?? []
    this.#writes.set(name, writes)
    return writes
  }

  #newName(service: string): string {
    return `mounts/${service}/${this.#named++}`
  }
}

interface Planned {
  readonly name: string
  /** Of a write. */
  readonly content: string | undefined
  readonly operation: PlannedOperation
}

/** As the programs in the containers see it. */
function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
