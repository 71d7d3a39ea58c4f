/** Processes of containers that are killed or stopped: the whole container, or only the member of etcd that its gateway tends. */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Container } from '../project.ts'
import type { Afterwards } from './fault.ts'

const HEALTHY_WITHIN_MS = 120_000
const STOPPED_WITHIN_MS = 20_000
const LOOK_EVERY_MS = 100

/** SIGKILL to the container. It is started again, and healthy, when the fault ends. */
export async function killNode(container: Container, afterwards: Afterwards): Promise<void> {
  afterwards(async () => {
    await container.start()
    await untilHealthy(container)
  })
  await container.kill()
}

/** No process of it runs, and nobody is told. */
export async function pauseNode(container: Container, afterwards: Afterwards): Promise<void> {
  afterwards(async () => {
    if ((await container.state()).status === 'paused') await container.unpause()
  })
  const until = deadline(STOPPED_WITHIN_MS)
  // The freezer of cgroups v1 gives up on a busy machine ("unable to freeze"), and has then thawed what it froze.
  while (!(await container.pause().then(isDone, isUnableToFreeze))) await until(`${container.service} is not paused`)
}

function isDone(): boolean {
  return true
}

function isUnableToFreeze(error: unknown): boolean {
  if (!String(error).includes('unable to freeze')) throw error
  return false
}

/** SIGKILL to etcd alone. The fault ends when the gateway has started another one. */
export async function killEtcd(container: Container, afterwards: Afterwards): Promise<void> {
  const killed = await etcdOf(container)
  process.kill(killed, 'SIGKILL')
  afterwards(async () => {
    const until = deadline(HEALTHY_WITHIN_MS)
    while (((await findEtcd(container)) ?? killed) === killed) await until(`${container.service} has no etcd`)
  })
}

export async function pauseEtcd(container: Container, afterwards: Afterwards): Promise<void> {
  const paused = await etcdOf(container)
  process.kill(paused, 'SIGSTOP')
  afterwards(async () => {
    // Its gateway may have put another one in its place, and then this id may be anybody's.
    if ((await findEtcd(container)) === paused) process.kill(paused, 'SIGCONT')
  })
  const until = deadline(STOPPED_WITHIN_MS)
  while (readProcess(paused)?.state !== 'T') await until(`etcd of ${container.service} goes on`)
}

/** Each is stopped, and started again, when the one before is healthy. */
export async function restartInTurn(containers: readonly Container[], afterwards: Afterwards): Promise<void> {
  for (const container of containers) {
    afterwards(async () => {
      await container.start()
      await untilHealthy(container)
    })
    await container.stop()
    await container.start()
    await untilHealthy(container)
  }
}

/** As its health check says; one without is healthy while it runs. */
export async function untilHealthy(container: Container): Promise<void> {
  const until = deadline(HEALTHY_WITHIN_MS)
  for (;;) {
    const { status, health } = await container.state()
    if (status === 'running' && (health === undefined || health === 'healthy')) return
    await until(`${container.service} is ${status}, and its health ${health}`)
  }
}

/** The id, on this machine, of the etcd below the container's first process. */
export async function etcdOf(container: Container): Promise<number> {
  const pid = await findEtcd(container)
  if (pid === undefined) throw new Error(`no etcd runs in ${container.service}`)
  return pid
}

async function findEtcd(container: Container): Promise<number | undefined> {
  const first = await container.pid()
  // Of a container that has ended; here 0 is the parent of all there is.
  if (first === 0) return undefined
  const below = new Set([first])
  const processes = readdirSync('/proc').flatMap((name) =>
    /^\d+$/.test(name) ? (readProcess(Number(name)) ?? []) : [],
  )
  // A child may have a smaller id than its parent, once ids have gone round.
  for (let size = 0; size < below.size;) {
    size = below.size
    for (const { pid, parent } of processes) if (below.has(parent)) below.add(pid)
  }
  return processes.find(({ pid, name }) => name === 'etcd' && below.has(pid))?.pid
}

interface RunningProcess {
  readonly pid: number
  readonly name: string
  /** A letter: T for one that was stopped. */
  readonly state: string
  readonly parent: number
}

/** @returns undefined for one that has ended. */
export function readProcess(pid: number): RunningProcess | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // `PID (NAME) STATE PARENT ...`, where the name may hold anything. One in state Z has ended.
  const [, name, state = 'Z', parent] = /^\d+ \((.*)\) (\S) (\d+) /s.exec(stat) ?? []
  return name === undefined || state === 'Z' ? undefined : { pid, name, state, parent: Number(parent) }
}

/** @returns a wait for the next look, which rejects when it is too late. */
function deadline(withinMs: number): (what: string) => Promise<void> {
  const endsAtMs = performance.now() + withinMs
  return async (what) => {
    if (performance.now() > endsAtMs) throw new Error(`${what} after ${withinMs} ms`)
    await sleep(LOOK_EVERY_MS)
  }
}
