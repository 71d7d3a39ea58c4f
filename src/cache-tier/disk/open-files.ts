/** Files of the disk level that are open for reading: so many at most, those longest unused closed first, none while it is read. */
import type { PageReader } from '../ports.ts'
import type { BlockFile } from './block-files.ts'

const OPEN_FILES_MAX = 128

interface OpenedFile {
  readonly opening: Promise<number>
  /** Once it is open: a read need not wait a turn for it. */
  handle: number | undefined
  users: number
  retired: boolean
  readonly closed: PromiseWithResolvers<void>
}

export class OpenFiles {
  readonly #reader: PageReader
  readonly #opened = new Map<BlockFile, OpenedFile>()

  constructor(reader: PageReader) {
    this.#reader = reader
  }

  /** @throws what opening throws, such as ENOENT */
  async use<T>(file: BlockFile, run: (handle: number) => Promise<T>): Promise<T> {
    const entry = this.#entry(file)
    entry.users++
    try {
      return await run(entry.handle ?? (await entry.opening))
    } finally {
      entry.users--
      this.#closeIfRetired(entry)
    }
  }

  /** Resolves when nobody reads the file any more and it is closed. */
  async close(file: BlockFile): Promise<void> {
    await this.#retire(file)
  }

  async closeAll(): Promise<void> {
    await Promise.all([...this.#opened.keys()].map((file) => this.#retire(file)))
  }

  #entry(file: BlockFile): OpenedFile {
    const known = this.#opened.get(file)
    if (known) {
      this.#opened.delete(file)
      this.#opened.set(file, known)
      return known
    }
    const entry: OpenedFile = {
      opening: this.#reader.open(file.path),
      handle: undefined,
      users: 0,
      retired: false,
      closed: Promise.withResolvers(),
    }
    this.#opened.set(file, entry)
    entry.opening.then(
      (handle) => (entry.handle = handle),
      () => {
        if (this.#opened.get(file) === entry) this.#opened.delete(file)
      },
    )
    if (this.#opened.size > OPEN_FILES_MAX) {
      const [longestUnused] = [...this.#opened].find(([, { users }]) => users === 0) ?? []
      if (longestUnused && longestUnused !== file) void this.#retire(longestUnused)
    }
    return entry
  }

  #retire(file: BlockFile): Promise<void> {
    const entry = this.#opened.get(file)
    if (!entry) return Promise.resolve()
    this.#opened.delete(file)
    entry.retired = true
    this.#closeIfRetired(entry)
    return entry.closed.promise
  }

  #closeIfRetired(entry: OpenedFile): void {
    if (!entry.retired || entry.users > 0) return
    entry.opening
      .then((handle) => this.#reader.close(handle))
      .catch(() => undefined)
      .finally(() => entry.closed.resolve())
  }
}
