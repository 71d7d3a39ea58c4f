/** Owner of the journal's threads (C24). */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { TidegateError } from '../../common/errors.ts'
import { workerEntry } from '../../common/worker-entry.ts'
import type { FileSystem } from '../ports.ts'
import { BatchingDevice, type BatchingObserver } from './batching.ts'
import { executeBatch, type BatchResult, type DeviceMemory, type JournalDevice } from './device.ts'
import { END, type DeviceThreadData } from './device-messages.ts'

/**
 * A device in a thread of its own. A thread that dies fails what it had, and all that comes after; `onDeath` is told, since
 * nothing can be written any more and the process had better end and recover.
 */
export function createThreadDevice(
  data: DeviceThreadData,
  options: { observer?: BatchingObserver; onDeath?: (error: Error) => void } = {},
): JournalDevice {
  const worker = new Worker(workerEntry(import.meta.url, 'device-thread'), {
    workerData: data,
    name: 'tidegate-journal',
  })
  worker.unref()
  let failure: Error | undefined
  let waiting: { resolve: (result: BatchResult) => void; reject: (error: Error) => void } | undefined
  const fail = (error: Error): void => {
    if (!failure) options.onDeath?.(error)
    failure ??= error
    waiting?.reject(failure)
  }
  worker.on('message', (result: BatchResult) => waiting?.resolve(result))
  worker.on('error', fail)
  let hasEnded = false
  worker.on('exit', (code) => {
    hasEnded = true
    fail(new TidegateError('Unavailable', `the journal thread ended with code ${code}`))
  })
  const device = new BatchingDevice(
    (operations) =>
      new Promise((resolve, reject) => {
        if (failure) return reject(failure)
        waiting = { resolve, reject }
        worker.ref()
        worker.postMessage(operations)
      }).finally(() => {
        waiting = undefined
        worker.unref()
      }) as Promise<BatchResult>,
    options.observer,
  )
  return {
    submit: (operations) => device.submit(operations),
    drain: () => device.drain(),
    async stop() {
      await device.stop()
      failure ??= new TidegateError('Unavailable', 'the journal has stopped')
      if (hasEnded) return
      // Asked to, rather than terminated: V8 aborts the process now and then when it is stopped in the middle of a call.
      const exited = once(worker, 'exit')
      worker.ref()
      worker.postMessage(END)
      await exited
    },
  }
}

/** The same device in the engine's thread, over any file system; for the simulation. */
export function createInlineDevice(
  fileSystem: FileSystem,
  memory: DeviceMemory,
  observer?: BatchingObserver,
): JournalDevice {
  const state = { files: new Map() }
  return new BatchingDevice((operations) => executeBatch(fileSystem, memory, state, operations), observer)
}
