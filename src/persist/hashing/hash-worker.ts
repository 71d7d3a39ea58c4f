/** The thread that hashes: see messages.ts for what it is told, hash-worker-link.ts for its other end. */
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { assert, must, unreachable } from '../../common/assert.ts'
import type { Checksum } from '../../common/checksums.ts'
import { createLaneHash, pageChecksumsOf } from './lanes.ts'
import type { HashAnswer, HashCommand, HashJob, HashResult, HashWorkerData } from './messages.ts'

/** Answers are posted after so many bytes, so that slots come free while a long batch is still at work. */
const ANSWER_AFTER_BYTES = 1024 * 1024

assert(!isMainThread, 'hash-worker.ts is the entry of a worker thread')
const port = must(parentPort, 'parent port')
const { slab } = workerData as HashWorkerData
const lanes = new Map<number, Checksum>()

port.on('message', (batch: HashCommand[]) => {
  let answers: HashAnswer[] = []
  let bytes = 0
  for (const command of batch) {
    if (command.kind === 'open') lanes.set(command.lane, createLaneHash(command.algorithm))
    else if (command.kind === 'close') lanes.delete(command.lane)
    else {
      answers.push({ ticket: command.ticket, result: run(command) })
      bytes += command.kind === 'digest' ? 0 : command.length
      if (bytes >= ANSWER_AFTER_BYTES) {
        port.postMessage(answers)
        answers = []
        bytes = 0
      }
    }
  }
  if (answers.length > 0) port.postMessage(answers)
})

const ready: HashAnswer[] = []
port.postMessage(ready)

function run(job: HashJob): HashResult {
  switch (job.kind) {
    case 'update':
      must(lanes.get(job.lane), 'lane').update(new Uint8Array(slab, job.slabOffset, job.length))
      return undefined
    case 'digest': {
      const digest = must(lanes.get(job.lane), 'lane').digest()
      lanes.delete(job.lane)
      return digest
    }
    case 'pages':
      return pageChecksumsOf(new Uint8Array(slab, job.slabOffset, job.length), job.pageBytes)
    default:
      return unreachable(job, 'hash job')
  }
}
