import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { must } from '../common/assert.ts'
import { UsageError } from './command.ts'
import type { Command } from './command.ts'

/** Of package.json, which lies above this file both in a checkout and in a package's dist/. */
export function packageVersion(): string {
  let folder = import.meta.dirname
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) folder = dirname(folder)
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version?: string }
  return must(version, 'version in package.json')
}

export const versionCommand: Command = {
  name: 'version',
  usage: '',
  summary: 'print the version',
  details: () => '',
  run(argv, context) {
    if (argv[0] !== undefined) throw new UsageError(`version takes no ${argv[0]}`)
    context.stdout.write(`tidegate ${packageVersion()} (node ${process.versions.node})\n`)
    return Promise.resolve(0)
  },
}
