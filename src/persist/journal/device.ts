/**
 * The journal's device: the only part that writes segment files. It takes operations in batches, writes all of a batch,
 * then syncs each file of which a sync was asked, once: a sync is shared by all who wait for it (C22).
 *
 * `executeBatch` runs in a thread of its own over the real file system (device-thread.ts), so that a slow sync fills
 * neither the event loop nor libuv's pool (C24), or in the engine's thread over a file-system double (simulation).
 *
 * Failure: once an operation on a segment fails, every later one on that segment fails too, until it is closed. After a
 * failed sync nothing that was written since the last good one can be trusted, so the journal abandons the segment
 * there. The device itself goes on serving other segments.
 */
import { must } from '../../common/assert.ts'
import { crc32 } from '../../common/crc32.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { FileSystem, OpenFile } from '../ports.ts'

export type DeviceOperation =
  | { readonly kind: 'create'; readonly segment: SegmentId; readonly path: string; readonly directory: string }
  /** Bytes straight from the slab. Answers with the checksum of every page that this write completes. */
  | {
      readonly kind: 'write'
      readonly segment: SegmentId
      readonly position: number
      readonly slabOffset: number
      readonly length: number
    }
  /** Bytes that are not in the slab (a footer). */
  | { readonly kind: 'append'; readonly segment: SegmentId; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly segment: SegmentId; readonly length: number }
  /** Contents, and the directory if the file is new, are durable when the batch is answered. */
  | { readonly kind: 'sync'; readonly segment: SegmentId }
  | { readonly kind: 'close'; readonly segment: SegmentId }

export interface DeviceFailure {
  readonly code: string
  readonly message: string
}

/** Answer to one operation. `pages` holds `[page index, CRC-32]` for each page completed by a write. */
export interface DeviceResult {
  readonly error?: DeviceFailure
  readonly pages?: readonly (readonly [number, number])[]
}

export interface BatchResult {
  readonly results: readonly DeviceResult[]
  /** fdatasync and directory syncs done; for metrics. */
  readonly syncs: number
}

/** Files that a device holds open; the state of one device. */
export interface DeviceState {
  readonly files: Map<SegmentId, DeviceFile>
}

interface DeviceFile {
  readonly file: OpenFile
  readonly directory: string
  directorySynced: boolean
  failure: DeviceFailure | undefined
}

export interface DeviceMemory {
  readonly slab: (slabOffset: number, length: number) => Uint8Array
  readonly blockBytes: number
  readonly pageBytes: number
}

export interface JournalDevice {
  /** Operations are executed in the order of `submit` calls. Never rejects: each operation has its own answer. */
  submit(operations: readonly DeviceOperation[]): Promise<readonly DeviceResult[]>
  /** Resolves when everything submitted was answered; takes no more afterwards. */
  drain(): Promise<void>
  stop(): Promise<void>
}

export async function executeBatch(
  fileSystem: FileSystem,
  memory: DeviceMemory,
  state: DeviceState,
  operations: readonly DeviceOperation[],
): Promise<BatchResult> {
  const results: DeviceResult[] = Array.from({ length: operations.length }, () => ({}))
  const toSync = new Map<SegmentId, number[]>()
  for (const [index, operation] of operations.entries()) {
    if (operation.kind === 'sync') {
      const waiting = toSync.get(operation.segment)
      if (waiting) waiting.push(index)
      else toSync.set(operation.segment, [index])
      continue
    }
    if (operation.kind === 'close') continue
    results[index] = await attempt(state, operation, () => execute(fileSystem, memory, state, operation))
  }
  let syncs = 0
  for (const [segment, waiting] of toSync) {
    const result = await attempt(state, must(operations[waiting[0] as number], 'operation'), async () => {
      syncs += await syncFile(fileSystem, must(state.files.get(segment), 'open segment file'))
      return {}
    })
    for (const index of waiting) results[index] = result
  }
  for (const [index, operation] of operations.entries()) {
    if (operation.kind === 'close') results[index] = await close(state, operation.segment)
  }
  return { results, syncs }
}

async function attempt(
  state: DeviceState,
  operation: DeviceOperation,
  run: () => Promise<DeviceResult>,
): Promise<DeviceResult> {
  const entry = state.files.get(operation.segment)
  if (entry?.failure) return { error: entry.failure }
  try {
    return await run()
  } catch (error) {
    const failure = describe(error)
    const opened = state.files.get(operation.segment)
    if (opened) opened.failure = failure
    return { error: failure }
  }
}

function describe(error: unknown): DeviceFailure {
  const code = (error as NodeJS.ErrnoException).code
  return { code: typeof code === 'string' ? code : 'EIO', message: (error as Error).message }
}

async function execute(
  fileSystem: FileSystem,
  memory: DeviceMemory,
  state: DeviceState,
  operation: Exclude<DeviceOperation, { kind: 'sync' | 'close' }>,
): Promise<DeviceResult> {
  if (operation.kind === 'create') {
    const file = await fileSystem.open(operation.path, 'create')
    state.files.set(operation.segment, {
      file,
      directory: operation.directory,
      directorySynced: false,
      failure: undefined,
    })
    return {}
  }
  const entry = state.files.get(operation.segment)
  if (!entry) return { error: { code: 'EIO', message: `segment ${operation.segment} was never created` } }
  switch (operation.kind) {
    case 'write': {
      const { slabOffset, length, position } = operation
      await entry.file.write(memory.slab(slabOffset, length), position)
      return { pages: completedPages(memory, operation) }
    }
    case 'append':
      await entry.file.write(operation.bytes, operation.position)
      return {}
    case 'truncate':
      await entry.file.truncate(operation.length)
      return {}
  }
}

/** Checksums of the pages whose last byte this write wrote; their earlier bytes lie before it in the same slot. */
function completedPages(
  memory: DeviceMemory,
  write: { position: number; slabOffset: number; length: number },
): [number, number][] {
  const { pageBytes, blockBytes, slab } = memory
  const slot = write.slabOffset - (write.position % blockBytes)
  const blockStart = write.position - (write.position % blockBytes)
  const pages: [number, number][] = []
  const end = write.position + write.length
  for (let page = Math.floor(write.position / pageBytes); (page + 1) * pageBytes <= end; page++) {
    const from = slot + page * pageBytes - blockStart
    pages.push([page, crc32(slab(from, pageBytes))])
  }
  return pages
}

async function syncFile(fileSystem: FileSystem, entry: DeviceFile): Promise<number> {
  await entry.file.sync()
  if (entry.directorySynced) return 1
  await fileSystem.syncDirectory(entry.directory)
  entry.directorySynced = true
  return 2
}

async function close(state: DeviceState, segment: SegmentId): Promise<DeviceResult> {
  const entry = state.files.get(segment)
  if (!entry) return {}
  state.files.delete(segment)
  try {
    await entry.file.close()
    return {}
  } catch (error) {
    return { error: describe(error) }
  }
}
