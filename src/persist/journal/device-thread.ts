/** The journal's device in a thread of its own: this file is the thread's entry, device-threads.ts its owner. */
import { parentPort, workerData } from 'node:worker_threads'
import { must } from '../../common/assert.ts'
import { syncFileSystem } from '../sync-file-system.ts'
import { executeBatch, type DeviceMemory, type DeviceState } from './device.ts'
import { END, type DeviceMessage, type DeviceThreadData } from './device-messages.ts'

const { slab, blockBytes, pageBytes } = workerData as DeviceThreadData
const memory: DeviceMemory = {
  slab: (slabOffset, length) => new Uint8Array(slab, slabOffset, length),
  blockBytes,
  pageBytes,
}
const state: DeviceState = { files: new Map() }
const port = must(parentPort, 'parent port of the journal thread')

port.on('message', (operations: DeviceMessage) => {
  if (operations === END) return port.close()
  // executeBatch rejects only for a bug of ours; then the thread dies, and its owner answers for it.
  void executeBatch(syncFileSystem, memory, state, operations).then((result) => port.postMessage(result))
})
