import { expect, test } from 'vitest'
import { workerEntry } from '../../../src/common/worker-entry.ts'

test.each([
  ['file:///src/persist/pool.ts', 'file:///src/persist/thread.ts'],
  ['file:///dist/src/persist/pool.js', 'file:///dist/src/persist/thread.js'],
  ['file:///with%20space/pool.ts', 'file:///with%20space/thread.ts'],
])('a worker of %s lies beside it, with its ending', (starter, worker) => {
  expect(workerEntry(starter, 'thread').href).toBe(worker)
})
