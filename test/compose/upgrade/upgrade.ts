/**
 * A rolling upgrade as docs/operating.md has it: the name of the image gets another meaning, and one node after the other is made anew from it, the store
 * last, while clients write and read. In the end everything that was acknowledged is read from every node.
 *
 * The image of before is built from the last commit before this one that has a Dockerfile.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ReplicatedLoad } from '../../cluster/node-loss/replicated-load.ts'
import { contentOf } from '../../cluster/node-loss/rounds.ts'
import { Random } from '../../model/random.ts'
import { runCommand } from '../../support/run-command.ts'
import { BUCKET } from '../../support/three-gateways.ts'
import { Ledger } from '../../write-behind/load/ledger.ts'
import { FaultyProject } from '../cluster-test/faulty-project.ts'
import { Probes } from '../cluster-test/probes.ts'
import { sum } from '../cluster-test/report.ts'
import type { Engine } from '../engine/engine.ts'
import { buildImage } from '../engine/images.ts'

export interface UpgradeOptions {
  /** The one that is upgraded to. */
  readonly image: string
  readonly seed: number
  readonly onStep?: (step: string) => void
}

export interface UpgradeResult {
  /** The commit that was upgraded from. */
  readonly from: string
  /** Of each node: until it serves again, and all is as safe as before. */
  readonly nodesMs: readonly number[]
  readonly probes: number
  readonly errorsWithoutRetries: number
  readonly errorsWithRetries: number
  /** The longest that a client of one node, which never tries again, had to wait for its next success. */
  readonly stallMs: number
  readonly acknowledged: number
  readonly readBack: number
  /** In words, each. */
  readonly lost: readonly string[]
  readonly stale: readonly string[]
}

const GIT_MS_MAX = 30_000
const NODES = ['n1', 'n2', 'n3'] as const
/** Its name stays, and its meaning changes. */
const ROLLING = `tidegate:rolling-${process.pid}`
const HEALED_MS_MAX = 180_000
const LOAD = { writers: 4, pauseMsMax: 250 }

export async function runUpgrade(engine: Engine, options: UpgradeOptions): Promise<UpgradeResult> {
  const { image, seed, onStep = () => undefined } = options
  const from = await buildPrevious(engine, ROLLING)
  onStep(`the image of ${from} is built`)
  const random = new Random(seed)
  const project = await FaultyProject.up(engine, { name: `upgrade-${process.pid}`, random, faults: [], image: ROLLING })
  try {
    onStep('the cluster of before is up')
    const ledger = new Ledger()
    const load = new ReplicatedLoad(project.targets(), { ledger, random, ...LOAD })
    const end = new AbortController()
    const probing = new Probes({ bucket: BUCKET, clients: project.clients }).run('upgrade', end.signal)
    load.start('load')
    await engine.docker(['tag', image, ROLLING])
    const nodesMs: number[] = []
    for (const node of NODES) {
      const begunMs = performance.now()
      await project.recreate(node)
      await project.untilHealed(HEALED_MS_MAX)
      nodesMs.push(performance.now() - begunMs)
      onStep(`${node} is upgraded`)
    }
    await project.recreate('store')
    onStep('the store is upgraded')
    await load.stop()
    end.abort()
    const probes = await probing
    const { readBack, lost } = await readAll(project, ledger)
    return {
      from,
      nodesMs,
      probes: probes.probes,
      errorsWithoutRetries: sum(probes.errors),
      errorsWithRetries: sum(probes.errorsWithRetries),
      stallMs: Math.max(...probes.stallMs),
      acknowledged: ledger.acknowledged,
      readBack,
      lost,
      stale: probes.stale,
    }
  } finally {
    await project.down()
  }
}

async function readAll(project: FaultyProject, ledger: Ledger): Promise<Pick<UpgradeResult, 'readBack' | 'lost'>> {
  const lost: string[] = []
  let readBack = 0
  for (const [node, client] of project.clients.entries())
    for (const key of ledger.keys) {
      const content = await contentOf(client, key, node).catch((error: unknown) => error as Error)
      readBack++
      if (content instanceof Error) lost.push(content.message)
      else if (!ledger.allowed(key, 'journal').includes(content))
        lost.push(`${key} holds ${content ?? 'nothing'} by node ${node}`)
    }
  return { readBack, lost }
}

/** @returns the commit @throws Error where the history does not reach back to one with a Dockerfile */
async function buildPrevious(engine: Engine, tag: string): Promise<string> {
  const commit = (await git('rev-list', '--max-count=1', '--skip=1', 'HEAD', '--', 'docker/Dockerfile', 'src')).trim()
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-previous-'))
  try {
    await git('worktree', 'add', '--detach', directory, commit)
    await buildImage(engine, { tag, context: directory, dockerfile: join(directory, 'docker', 'Dockerfile') })
  } finally {
    await git('worktree', 'remove', '--force', directory)
    rmSync(directory, { recursive: true, force: true })
  }
  return commit.slice(0, 12)
}

async function git(...args: string[]): Promise<string> {
  const { code, output } = await runCommand(['git', ...args], { show: false, timeoutMs: GIT_MS_MAX })
  if (code !== 0) throw new Error(`git ${args[0]}: ${output.trim()}`)
  return output
}
