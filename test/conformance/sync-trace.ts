/**
 * Reads an strace of a process that writes an LMDB file and prints a line for each durable commit, and says which lines
 * came too early. A line is too early when data pages had been written and not synced, when the meta page had gone
 * through a descriptor without O_DSYNC and was not synced, or when no meta page was written since the line before.
 *
 * Trace it with `-f -e trace=openat,close,write,writev,pwrite64,pwritev,fdatasync,fsync,msync`.
 */
export interface SyncTrace {
  readonly linesPrinted: number
  readonly syncs: number
  /** Each says what was wrong with one printed line. */
  readonly tooEarly: readonly string[]
}

interface TraceState {
  /** Descriptor to whether it was opened with O_DSYNC. */
  readonly files: Map<string, boolean>
  unsyncedWrites: number
  metaWrites: number
  syncs: number
}

const CALL = /^(\d+) +(\w+)\((.*)$/
const RESUMED = /^(\d+) +<\.\.\. (\w+) resumed>/

export function readSyncTrace(trace: string, fileName: string): SyncTrace {
  const state: TraceState = { files: new Map(), unsyncedWrites: 0, metaWrites: 0, syncs: 0 }
  const unfinished = new Map<string, string>()
  const tooEarly: string[] = []
  let linesPrinted = 0
  for (let line of trace.split('\n')) {
    const resumed = RESUMED.exec(line)
    if (resumed !== null) line = (unfinished.get(resumed[1]!) ?? '') + line.slice(resumed[0].length)
    const [, thread, call, rest] = CALL.exec(line) ?? []
    if (thread === undefined || call === undefined || rest === undefined) continue
    if (rest.includes('<unfinished ...>')) {
      // strace puts a space before the mark that the whole call does not have.
      unfinished.set(thread, line.slice(0, line.indexOf('<unfinished ...>')).trimEnd())
      // A line may have been seen before its write returns, so it counts from its beginning; all else once it returned.
      if (call !== 'write') continue
    }
    if (call === 'write' && rest.startsWith('1, "durable') && resumed === null) {
      linesPrinted++
      if (state.unsyncedWrites > 0) tooEarly.push(`line ${linesPrinted}: ${state.unsyncedWrites} writes not synced`)
      if (state.metaWrites === 0) tooEarly.push(`line ${linesPrinted}: nothing was committed for it`)
      state.metaWrites = 0
    } else {
      follow(state, call, rest, fileName)
    }
  }
  return { linesPrinted, syncs: state.syncs, tooEarly }
}

function follow(state: TraceState, call: string, rest: string, fileName: string): void {
  const descriptor = /^\d+/.exec(rest)?.[0] ?? ''
  const result = / = (-?\d+)/.exec(rest.slice(rest.lastIndexOf(')')))?.[1]
  switch (call) {
    case 'openat':
      if (rest.includes(`/${fileName}"`) && result !== undefined) state.files.set(result, rest.includes('O_DSYNC'))
      break
    case 'close':
      state.files.delete(descriptor)
      break
    case 'fdatasync':
    case 'fsync':
      if (!state.files.has(descriptor) || result !== '0') return
      state.syncs++
      state.unsyncedWrites = 0
      break
    case 'write':
    case 'writev':
    case 'pwrite64':
    case 'pwritev': {
      const synced = state.files.get(descriptor)
      if (synced === undefined) return
      if (isMetaWrite(call, rest)) state.metaWrites++
      if (!synced) state.unsyncedWrites++
      break
    }
  }
}

/** LMDB writes one of the first two pages only to swap the root. */
function isMetaWrite(call: string, rest: string): boolean {
  const [, length, offset] = /, (\d+), (\d+)\) += \d+/.exec(rest) ?? []
  return call === 'pwrite64' && Number(length) < 4096 && Number(offset) < 8192
}
