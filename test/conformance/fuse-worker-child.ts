/** A thread that serves a null file system: on a mount that it makes, or on a clone of another thread's. */
import { parentPort, workerData } from 'node:worker_threads'
import { cloneChannel, mountFuse } from '../../src/gateway/fuse/channel/mount.ts'
import type { FuseChannel, MountOptions } from '../../src/gateway/fuse/channel/ports.ts'
import { NullFileSystem, type NullOptions } from './fuse-null-file-system.ts'

const { clone, ...options } = workerData as MountOptions &
  NullOptions & { readonly clone?: Pick<FuseChannel, 'mountPoint' | 'descriptor'> }
const channel = clone === undefined ? await mountFuse(options) : await cloneChannel(clone, options)
new NullFileSystem(channel, options).start()
parentPort?.postMessage('ready')
