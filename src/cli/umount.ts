/** `tidegate umount`: takes a mount away, alive or dead, without asking its server. */
import { findMount, resolveMountPoint, unmountByProgram } from '../gateway/fuse/channel/mount-table.ts'
import { TidegateError } from '../common/errors.ts'
import { onlyNames, parseArguments } from './arguments.ts'
import type { Command } from './command.ts'

export const umountCommand: Command = {
  name: 'umount',
  usage: 'DIR [--lazy]',
  summary: 'take a mount of a gateway away',
  details: () =>
    `Ends the mount on DIR; the gateway that serves it goes on with its other doors. Also for what a gateway that was killed has left.

  --lazy    also while files in it are open: who has them open goes on`,
  async run(argv, context) {
    const { values, positionals } = parseArguments(argv, { lazy: { type: 'boolean', default: false } })
    const [directory] = onlyNames(positionals, 'DIR')
    const mountPoint = await resolveMountPoint(directory)
    if ((await findMount(mountPoint)) === undefined) {
      throw new TidegateError('InvalidArgument', `no gateway is mounted on ${directory}`)
    }
    await unmountByProgram(mountPoint, { lazy: values.lazy })
    context.stdout.write(`unmounted ${mountPoint}\n`)
    return 0
  },
}
