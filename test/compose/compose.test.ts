// needs: docker iptables tc nsenter aws cc losetup mkfs.ext4
/** Everything that takes an engine of containers, on one engine and with one image. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { REPOSITORY } from '../support/run-command.ts'
import { describeCluster } from './describe-cluster.ts'
import { describeSingleNode } from './describe-single-node.ts'
import { describeHarness } from './engine/describe-harness.ts'
import { startEngine, type Engine } from './engine/engine.ts'
import { buildImage } from './engine/images.ts'
import { describeFaults } from './faults/describe-faults.ts'
import { describeMonitoring } from './monitoring/describe-monitoring.ts'
import { leftovers, machineState } from './engine/leftovers.ts'
import { removeEnginesLeftBehind } from './engine/own-engine.ts'

const START_MS_MAX = 1_200_000
const IMAGE = 'tidegate:test'
const GONE_WITHIN_MS = 10_000
const LOOK_EVERY_MS = 100

let before: ReadonlySet<string>

/** What is still there after a while: the kernel takes some things away a little later. */
async function stillLeft(kind = ''): Promise<string[]> {
  const untilMs = performance.now() + GONE_WITHIN_MS
  for (;;) {
    const left = leftovers(before, await machineState()).filter((line) => line.startsWith(kind))
    if (left.length === 0 || performance.now() > untilMs) return left
    await sleep(LOOK_EVERY_MS)
  }
}

function bridges(): string[] {
  return readdirSync('/sys/class/net').filter((name) => name.startsWith('br-'))
}

beforeAll(async () => {
  await removeEnginesLeftBehind()
  before = await machineState()
})

describe('on an engine', () => {
  let engine: Engine

  beforeAll(async () => {
    engine = await startEngine()
    await buildImage(engine, { tag: IMAGE, context: REPOSITORY, dockerfile: join(REPOSITORY, 'docker', 'Dockerfile') })
  }, START_MS_MAX)
  afterAll(async () => await engine.end(), START_MS_MAX)

  describeHarness(() => engine)
  describeSingleNode(() => engine, IMAGE)
  describeFaults(() => engine)
  describeCluster(() => engine, IMAGE)
  describeMonitoring(() => engine, IMAGE)
})

describe('an engine of our own', () => {
  it('leaves nothing behind', async () => {
    expect(await stillLeft()).toEqual([])
  })

  it('ends with the test that is killed, and the next one removes what is left of it', async () => {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'engine', 'killed-process.ts')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [said] = (await once(child.stdout, 'data')) as [Buffer]
    const bridge = said.toString().trim()
    expect(bridges()).toContain(bridge)
    const running = leftovers(before, await machineState()).join('\n')
    for (const kind of ['process \\d+ dockerd', 'process \\d+ containerd', 'file .*tidegate-engine-'])
      expect(running).toMatch(new RegExp(`^${kind}`, 'm'))
    child.kill('SIGKILL')
    expect(await stillLeft('process')).toEqual([])
    expect(await stillLeft('mount')).toEqual([])
    await removeEnginesLeftBehind()
    expect(bridges()).not.toContain(bridge)
    expect(await stillLeft()).toEqual([])
  })
})
