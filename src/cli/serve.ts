import { optionsHelp } from '../config/documentation.ts'
import { parseConfig } from '../config/parse.ts'
import { parseInput } from './machine.ts'
import type { Command } from './command.ts'

export const serveCommand: Command = {
  name: 'serve',
  usage: '[OPTIONS]',
  summary: 'run the gateway until it is told to stop',
  details: () =>
    `Prints one line that begins with "ready" and names both addresses once it serves; logs go to stderr. SIGTERM and SIGINT
drain: requests in flight finish, then it ends with code 0. A second one stops at once.

Every option can also stand in the environment (TIDEGATE_S3) or in the file named by --config (s3: ...).

${optionsHelp()}`,
  async run(argv, context) {
    await context.serve(parseConfig(parseInput(argv, context)))
    return 0
  },
}
