/** `tidegate mount`: tells a running gateway to mount its namespace on a directory of its machine. */
import { resolve } from 'node:path'
import { onlyNames, parseArguments } from './arguments.ts'
import { connect, CONNECTION_HELP, CONNECTION_OPTIONS } from './connection.ts'
import type { Command } from './command.ts'

const MOUNTS_PATH = '/admin/v1/mounts'

export const mountCommand: Command = {
  name: 'mount',
  usage: 'DIR | --list',
  summary: 'mount the namespace of a running gateway',
  details: () =>
    `Mounts on DIR, an empty directory on the machine of the gateway, until "tidegate umount DIR" or the end of the gateway. Only
the root user of the gateway may. "tidegate serve --mount DIR" mounts at each start.

--list         show what is mounted

${CONNECTION_HELP}`,
  async run(argv, context) {
    const { values, positionals } = parseArguments(argv, { ...CONNECTION_OPTIONS, list: { type: 'boolean' } })
    if (values.list === true) {
      onlyNames(positionals)
      const response = await connect(values, context.env).send({ method: 'GET', path: MOUNTS_PATH })
      const { mounts } = (await response.json()) as { readonly mounts: readonly { readonly directory: string }[] }
      if (values.json === true) context.stdout.write(`${JSON.stringify(mounts, undefined, 2)}\n`)
      else for (const { directory } of mounts) context.stdout.write(`${directory}\n`)
      return 0
    }
    const [named] = onlyNames(positionals, 'DIR')
    // The gateway may stand elsewhere.
    const json = { directory: resolve(named) }
    const response = await connect(values, context.env).send({ method: 'POST', path: MOUNTS_PATH, json })
    const { directory } = (await response.json()) as { readonly directory: string }
    context.stdout.write(values.json === true ? `${JSON.stringify({ directory })}\n` : `mounted ${directory}\n`)
    return 0
  },
}
