/** The suite on this machine: its tests, and its one program, built outside of the checkout if it is not built yet. */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, globSync } from 'node:fs'
import { join } from 'node:path'

export interface Suite {
  /** Holds `pjdfstest` and `tests/`. */
  readonly directory: string
  /** Under `tests/`, such as `chmod/00.t`. */
  readonly files: readonly string[]
}

/** @throws Error when the checkout is none, or cannot be built */
export function prepareSuite(checkout: string, scratch: string): Suite {
  if (!existsSync(join(checkout, 'tests', 'misc.sh'))) throw new Error(`${checkout} is no checkout of pjd/pjdfstest`)
  const files = globSync('*/*.t', { cwd: join(checkout, 'tests') }).toSorted()
  if (existsSync(join(checkout, 'pjdfstest'))) return { directory: checkout, files }
  const directory = join(scratch, 'pjdfstest')
  cpSync(checkout, directory, { recursive: true })
  const run = (program: string, args: readonly string[]): void => {
    execFileSync(program, args, { cwd: directory, stdio: ['ignore', 'ignore', 'inherit'] })
  }
  run('autoreconf', ['-ifs'])
  run('./configure', [])
  run('make', ['pjdfstest'])
  return { directory, files }
}
