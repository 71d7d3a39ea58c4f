/**
 * A null FUSE server in a process of its own: the ceiling that the mount is measured against, on the same channel.
 *
 *     node bench/fuse-null-server.ts MOUNT_POINT '{"twin": "addon", "fileBytes": 1048576, ...}'
 *     node bench/fuse-null-server.ts MOUNT_POINT '{"tree": true}'
 *
 * Serves one file of `fileBytes`, or with `tree` an empty tree in which files can be made. Says `ready` once it is mounted and
 * serves. Ends by itself when it is unmounted; SIGTERM unmounts it.
 */
import { cleanDeadMount } from '../src/gateway/fuse/channel/mount-table.ts'
import { mountFuse } from '../src/gateway/fuse/channel/mount.ts'
import type { MountOptions } from '../src/gateway/fuse/channel/ports.ts'
import { NullTree } from './bare/null-tree.ts'
import { NullFileSystem, type NullOptions } from '../test/conformance/fuse-null-file-system.ts'

interface ServerOptions extends NullOptions, Omit<MountOptions, 'mountPoint'> {
  readonly tree?: boolean
  readonly exitMs?: number
}

const [mountPoint = '', optionsText = '{}'] = process.argv.slice(2)
const options: ServerOptions = {
  name: 'null',
  allowOther: process.getuid?.() === 0,
  defaultPermissions: true,
  fileBytes: 1024 * 1024,
  writeBytesMax: 1024 * 1024,
  slotCount: 16,
  spinUsMax: 0,
  ...(JSON.parse(optionsText) as Partial<ServerOptions>),
}
await cleanDeadMount(mountPoint)
const channel = await mountFuse({ ...options, mountPoint })
const files = options.tree === true ? new NullTree(channel) : new NullFileSystem(channel, options)
files.start()
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => void channel.unmount({ lazy: true }))
console.log('ready')
// Ends without unmounting, as a careless program does.
if (options.exitMs !== undefined) setTimeout(() => process.exit(), options.exitMs)
await channel.closed
