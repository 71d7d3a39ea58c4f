/** Control groups of containers, of both versions. The kernel keeps them when all that ran in them is gone. */
import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const EMPTY_WITHIN_MS = 10_000
const LOOK_EVERY_MS = 50

/** One of this name for each hierarchy of the machine that has it. */
export function controlGroupsNamed(name: string): string[] {
  const roots = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , type]) => type === 'cgroup' || type === 'cgroup2')
    .map(([, root = '']) => join(root, name))
  return [...new Set(roots)].filter((group) => existsSync(group))
}

/** Ends what runs in them, also what is frozen: that hears no signal until it is thawed, and is thawed in one hierarchy of several. */
export async function removeControlGroups(name: string): Promise<void> {
  const untilMs = performance.now() + EMPTY_WITHIN_MS
  for (let left = controlGroupsNamed(name); left.length > 0; left = controlGroupsNamed(name)) {
    if (performance.now() > untilMs) throw new Error(`control group ${left.join(', ')} is not empty`)
    for (const group of left.flatMap(withThoseBelow)) {
      endAllIn(group)
      attempt(() => rmdirSync(group))
    }
    await sleep(LOOK_EVERY_MS)
  }
}

/** The innermost first, in which order they can be removed. */
function withThoseBelow(group: string): string[] {
  const below = readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return [...below.flatMap((entry) => withThoseBelow(join(group, entry.name))), group]
}

function endAllIn(group: string): void {
  const write = (file: string, text: string): void => {
    if (existsSync(join(group, file))) attempt(() => writeFileSync(join(group, file), text))
  }
  attempt(() => {
    const inside = readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean)
    for (const pid of inside) attempt(() => process.kill(Number(pid), 'SIGKILL'))
  })
  write('freezer.state', 'THAWED')
  write('cgroup.freeze', '0')
}

/** What fails now is tried again until the time is up. */
function attempt(action: () => void): void {
  try {
    action()
  } catch {
    // It may have gone by itself, or not be empty yet.
  }
}
