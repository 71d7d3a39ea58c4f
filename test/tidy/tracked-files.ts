import { execFileSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { REPOSITORY } from '../support/run-command.ts'

/** Paths of the repository's files: what git tracks, and what it would (new files that are not ignored). */
export function trackedFiles(): string[] {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], {
    cwd: REPOSITORY,
  })
  return listed
    .toString()
    .split('\0')
    .filter((path) => path !== '' && isFile(path))
    .sort()
}

/** Deleted files stay in the index until they are committed. */
function isFile(path: string): boolean {
  return statSync(join(REPOSITORY, path), { throwIfNoEntry: false })?.isFile() ?? false
}

export function textOf(path: string): string {
  return readFileSync(join(REPOSITORY, path), 'utf8')
}
