/** The thread that reads pages of cached blocks into the slab and checks them: page-reader.ts is its owner. */
import { readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { must } from '../../common/assert.ts'
import { crc32, nativePageReader } from '../../common/crc32.ts'
import type { PageRead } from '../ports.ts'

export interface PageReadCommand extends PageRead {
  readonly ticket: number
}

export interface PageReadAnswer {
  readonly ticket: number
  readonly outcome: 'good' | 'bad' | 'failed'
}

export interface PageReaderThreadData {
  readonly slab: SharedArrayBuffer
}

const { slab } = workerData as PageReaderThreadData
const port = must(parentPort, 'parent port of the page reader')

const readNatively = nativePageReader()

function readPages(want: PageRead): PageReadAnswer['outcome'] {
  if (!readNatively) return readByNode(want)
  const into = new Uint8Array(slab, want.slabOffset, want.length)
  const result = readNatively(want.handle, into, want.position, want.pageBytes, want.pageCrcs)
  return result === 0 ? 'good' : result > 0 ? 'bad' : 'failed'
}

/** Page by page, so that each is still in the processor's cache when its checksum is taken. */
function readByNode(want: PageRead): PageReadAnswer['outcome'] {
  try {
    for (let page = 0; page * want.pageBytes < want.length; page++) {
      const at = page * want.pageBytes
      const into = new Uint8Array(slab, want.slabOffset + at, Math.min(want.pageBytes, want.length - at))
      if (!fill(want.handle, into, want.position + at) || crc32(into) !== want.pageCrcs[page]) return 'bad'
    }
    return 'good'
  } catch {
    return 'failed'
  }
}

/** False at the end of the file. */
function fill(descriptor: number, into: Uint8Array, position: number): boolean {
  for (let done = 0; done < into.length;) {
    const got = readSync(descriptor, into, done, into.length - done, position + done)
    if (got === 0) return false
    done += got
  }
  return true
}

port.on('message', (command: PageReadCommand) => {
  port.postMessage({ ticket: command.ticket, outcome: readPages(command) } satisfies PageReadAnswer)
})
port.postMessage('ready')
