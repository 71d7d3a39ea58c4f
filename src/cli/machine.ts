import { readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import type { ParseInput } from '../config/parse.ts'
import type { CliContext } from './command.ts'

/** What the configuration is parsed from, on this machine. */
export function parseInput(argv: readonly string[], context: CliContext): ParseInput {
  return {
    argv,
    env: context.env,
    readFile: (path) => readFileSync(path, 'utf8'),
    machine: { memoryBytes: memoryAllowedBytes(), cpuCount: availableParallelism() },
  }
}

/** The memory that the cgroup allows this process, or the machine's where there is no limit. */
function memoryAllowedBytes(): number {
  const constrained = process.constrainedMemory()
  const total = totalmem()
  // Without a limit it is 0 (unknown) or larger than the machine.
  return constrained > 0 ? Math.min(constrained, total) : total
}
