/** Files over the fakes, with a clock that tests move. */
import type { Clock } from '../../../../src/common/clock.ts'
import type { ByteString, InodeId } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS, type Limits } from '../../../../src/common/limits.ts'
import { Acknowledgement } from '../../../../src/store/acknowledgement.ts'
import type { Memory, Persisting } from '../../../../src/store/byte-ports.ts'
import { StoreFiles } from '../../../../src/store/files/files.ts'
import type { FileFailure } from '../../../../src/store/files/file-parts.ts'
import { checkFileLimits, type FileLimits } from '../../../../src/store/files/limits.ts'
import { Readers } from '../../../../src/store/reading.ts'
import { FakeJournal, FakeMetadataFiles, FakeSlab } from '../../../support/fake-files.ts'

export class StillClock implements Clock {
  ms = 0
  readonly #sleepers = new Set<{ readonly untilMs: number; readonly wake: () => void }>()

  nowMs(): number {
    return 1_700_000_000_000 + this.ms
  }

  monotonicMs(): number {
    return this.ms
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { untilMs: this.ms + ms, wake: resolve }
      this.#sleepers.add(sleeper)
      signal?.addEventListener('abort', () => {
        this.#sleepers.delete(sleeper)
        reject(signal.reason as Error)
      })
    })
  }

  async advance(ms: number): Promise<void> {
    this.ms += ms
    for (const sleeper of this.#sleepers) {
      if (sleeper.untilMs > this.ms) continue
      this.#sleepers.delete(sleeper)
      sleeper.wake()
    }
    await turns()
  }
}

/** Lets what can go on go on. */
export async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
}

const KIB = 1024
export const SMALL_LIMITS: FileLimits = checkFileLimits({
  dirtyBytesMax: 128 * KIB,
  fileDirtyBytesMax: 64 * KIB,
  writeBytesMax: 16 * KIB,
  publishAgeMsMax: 5_000,
  editsMax: 64,
  readAheadBytesMax: 64 * KIB,
  fileBytesMax: 2 ** 40,
})

export interface Fixture {
  readonly clock: StillClock
  readonly metadata: FakeMetadataFiles
  readonly journal: FakeJournal
  readonly slab: FakeSlab
  readonly readers: Readers
  readonly files: StoreFiles
  readonly failures: FileFailure[]
  /** Refuses writes while set. */
  full: Error | undefined
  persisted: string[]
  named: string[]
  make(name: string): Promise<InodeId>
  open(inode: InodeId): Promise<number>
  contentOf(handle: number, offset?: number, length?: number): Promise<Buffer>
  /** What other doors see. */
  publishedContent(inode: InodeId): Promise<Buffer>
}

/** What a test says of where bytes are. */
export type Whereabouts = Pick<Persisting, 'isLocal'> & Pick<Memory, 'residentBytes'>
const NOT_PERSISTED: Whereabouts = { isLocal: () => true, residentBytes: () => 0 }

export const text = (value: string): Buffer => Buffer.from(value)
export const filled = (bytes: number, byte: number): Buffer => Buffer.alloc(bytes, byte)
export const name = (value: string): ByteString => value as ByteString

export function createFixture(
  fileLimits: FileLimits = SMALL_LIMITS,
  blockBytes = 1024,
  whereabouts: Whereabouts = NOT_PERSISTED,
): Fixture {
  const limits: Limits = { ...DEFAULT_LIMITS, blockBytes, sharedBodyBytesMax: 32 * KIB, inlineBytesMax: 256 }
  const clock = new StillClock()
  const metadata = new FakeMetadataFiles()
  const journal = new FakeJournal()
  const slab = new FakeSlab(journal, blockBytes)
  const memory = { ...slab.memory, residentBytes: whereabouts.residentBytes }
  const failures: FileFailure[] = []
  const persisted: string[] = []
  const named: string[] = []
  const persisting = {
    isLocal: whereabouts.isLocal,
    acceptNow: () => fixture.full === undefined,
    accept: () => (fixture.full ? Promise.reject(fixture.full) : Promise.resolve()),
    reserve: () => (fixture.full ? Promise.reject(fixture.full) : Promise.resolve()),
    pacer: () => ({ pace: () => Promise.resolve() }),
    covered: () => Promise.resolve(),
    named: ({ key }: { key: string }) => {
      named.push(key)
      return Promise.resolve()
    },
    persisted: (segment: string) => {
      persisted.push(segment)
      return Promise.resolve()
    },
  }
  const contents = metadata as never
  const readers = new Readers({ memory, contents, blockBytes })
  const files = new StoreFiles({
    metadata,
    memory,
    journal,
    persisting,
    acknowledgement: new Acknowledgement({ journal, persisting, contents }),
    readers,
    space: {
      space: () => Promise.resolve({ totalBytes: 1 << 30, freeBytes: 1 << 29, availableBytes: 1 << 28, files: 7 }),
    },
    limits,
    fileLimits,
    clock,
    owner: 'root',
    onFailure: (failure) => failures.push(failure),
  })
  const fixture: Fixture = {
    clock,
    metadata,
    journal,
    slab,
    readers,
    files,
    failures,
    full: undefined,
    persisted,
    named,
    make: async (name) => {
      const made = { kind: 'file', mode: 0o644, uid: 1, gid: 1 } as const
      return (await files.makeFile(1, name as ByteString, made)).inode
    },
    open: async (inode) => (await files.open(inode, { write: true, truncate: false })).handle,
    contentOf: async (handle, offset = 0, length = 2 ** 40) => {
      const now = files.readNow(handle, offset, length)
      const atOnce = now && slab.collect(now)
      const content = slab.collect(await files.read(handle, offset, length))
      if (atOnce && !atOnce.equals(content)) throw new Error('what is read at once is not what is read')
      return content
    },
    publishedContent: async (inode) => {
      const { size } = await metadata.fileNode(inode)
      const { inline, extents } = await metadata.fileExtents(inode, 0, size)
      const content = Buffer.alloc(size)
      content.set(inline ?? [])
      for (const { offset, length, segment, segmentOffset } of extents) {
        content.set(journal.segments.get(segment)?.subarray(segmentOffset, segmentOffset + length) ?? [], offset)
      }
      return content
    },
  }
  return fixture
}
