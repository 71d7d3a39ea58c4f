/** file-loop.c, built when it is first wanted: one call of the C compiler, as for the mount's addon. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isInstalled, runProgram } from '../program.ts'

const SOURCE = fileURLToPath(new URL('./file-loop.c', import.meta.url))

export interface Loop {
  readonly operations: number
  readonly seconds: number
}

/** Runs a loop that file-loop.c describes: its name, then its words. One result for each line that it prints. */
export type FileLoop = (...words: readonly (string | number)[]) => Promise<Loop[]>

/** The program goes into `directory`. @throws when there is no compiler */
export function buildFileLoop(directory: string): FileLoop {
  const compiler = process.env['CC'] ?? 'cc'
  if (!isInstalled(compiler)) throw new Error('the loops of system calls are C: there is no cc here (apt install gcc)')
  const program = join(directory, 'file-loop')
  const built = spawnSync(compiler, ['-std=gnu11', '-O2', '-o', program, SOURCE])
  if (built.status !== 0) throw new Error(`${compiler} could not build file-loop.c: ${built.stderr.toString()}`)
  return async (...words) => {
    const { stdout } = await runProgram(program, words.map(String))
    return stdout
      .trim()
      .split('\n')
      .map((line) => {
        const [, operations, nanoseconds] = line.split(' ')
        return { operations: Number(operations), seconds: Number(nanoseconds) / 1e9 }
      })
  }
}

/** Of the one loop that was run. */
export function rateOf(loops: readonly Loop[]): number {
  const [loop] = loops
  return loop === undefined ? Number.NaN : loop.operations / loop.seconds
}
