/** Processes of this machine, also those in namespaces below: the same one has another id in each. */
import { readdirSync, readFileSync } from 'node:fs'

/** A process that is still the one that was meant: ids are used again. */
export interface ProcessIdentity {
  readonly pid: number
  readonly startedTicks: string
}

/** @returns undefined when there is none */
export function identityOf(pid: number): ProcessIdentity | undefined {
  // `PID (NAME) STATE PARENT ...`, where the name may hold anything; the 22nd is when it was started. What is in state Z has ended.
  const [state, ...rest] = readOrNothing(`/proc/${pid}/stat`)
    .replace(/^.*\) /s, '')
    .split(' ')
  const startedTicks = rest[18]
  return startedTicks === undefined || state === 'Z' ? undefined : { pid, startedTicks }
}

export function isRunning({ pid, startedTicks }: ProcessIdentity): boolean {
  return identityOf(pid)?.startedTicks === startedTicks
}

export function allProcesses(): number[] {
  return readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []))
}

export function childOf(parent: number): number | undefined {
  return allProcesses().find((pid) => statusLine(pid, 'PPid')[0] === String(parent))
}

export function nameOf(pid: number): string {
  return readOrNothing(`/proc/${pid}/comm`).trim()
}

/**
 * The first process of a container, by its id on this machine: an engine in a namespace of its own knows it by another one. Found by the control group,
 * whose name ends in the container's id whoever started it.
 */
export function firstProcessOf(containerId: string): number | undefined {
  return allProcesses().find(
    (pid) => readOrNothing(`/proc/${pid}/cgroup`).includes(containerId) && statusLine(pid, 'NSpid').at(-1) === '1',
  )
}

/** Empty when the process has ended. */
function statusLine(pid: number, name: string): string[] {
  const line = new RegExp(`^${name}:(.*)$`, 'm').exec(readOrNothing(`/proc/${pid}/status`))
  return line?.[1]?.trim().split(/\s+/) ?? []
}

function readOrNothing(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
