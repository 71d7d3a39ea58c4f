/** The parts of an engine, with the points of points.ts on them. */
import type { EngineParts } from '../../../src/engine-parts.ts'
import type { ByteString } from '../../../src/common/ids.ts'
import { SEGMENT_STATE_ROWS } from '../../../src/meta/namespace/keys.ts'
import { decodeSegment } from '../../../src/meta/namespace/records-contents.ts'
import type { ReadOptions, Transaction } from '../../../src/meta/ports.ts'
import type { EmbeddedStore } from '../../../src/meta/stage/ports.ts'
import type { DeviceOperation, JournalDevice } from '../../../src/persist/journal/device.ts'
import type { FileSystem } from '../../../src/persist/ports.ts'
import type { RemoteStore } from '../../../src/persist/remote/ports.ts'
import { die, type CrashPoint, type Passing } from './points.ts'

/** Longest time that an upload has gone on when the process ends in its midst. */
const UPLOAD_MS_MAX = 30

export function withCrashPoints(parts: EngineParts, passing: Passing): EngineParts {
  const { remote } = parts
  return {
    ...parts,
    fileSystem: crashingFileSystem(parts.fileSystem, passing),
    createDevice: (memory) => crashingDevice(parts.createDevice(memory), passing),
    createOrderedStore: (beforeCommit) =>
      crashingStore(
        parts.createOrderedStore(async () => {
          await beforeCommit()
          pass(passing, 'before metadata commit')
        }),
        passing,
      ),
    ...(remote && { remote: { ...remote, store: crashingRemote(remote.store, passing) } }),
  }
}

function pass(passing: Passing, point: CrashPoint): void {
  if (passing(point)) die()
}

/** Everything as before, but for what `changed` says instead. */
function decorated<T extends object>(inner: T, changed: Partial<T>): T {
  return new Proxy(inner, {
    get(target, name) {
      const replacement: unknown = Reflect.get(changed, name)
      if (replacement !== undefined) return replacement
      const own: unknown = Reflect.get(target, name, target)
      return typeof own === 'function' ? (own.bind(target) as unknown) : own
    },
  })
}

function crashingDevice(inner: JournalDevice, passing: Passing): JournalDevice {
  return decorated(inner, {
    async submit(operations) {
      const has = (kind: DeviceOperation['kind']): boolean => operations.some((operation) => operation.kind === kind)
      const syncs = has('sync')
      // A footer is what is appended; bodies are written from the slab.
      const seals = has('append')
      if (has('write')) pass(passing, 'before journal write')
      if (seals) pass(passing, 'before seal')
      const isFatal =
        (has('write') && passing('after journal write')) || (syncs && !seals && passing('before journal sync'))
      if (isFatal) {
        await inner.submit(operations.filter(({ kind }) => kind !== 'sync' && kind !== 'close'))
        die()
      }
      const results = await inner.submit(operations)
      if (syncs) pass(passing, seals ? 'after seal' : 'after journal sync')
      return results
    },
  })
}

/** What a transaction does to the states of segments. */
type SegmentStep = 'mark sealed' | 'mark persisted' | 'segment forgotten'

function crashingStore(inner: EmbeddedStore, passing: Passing): EmbeddedStore {
  return decorated(inner, {
    async transact<T>(run: (tx: Transaction) => Promise<T>, options?: ReadOptions) {
      let step: SegmentStep | undefined
      const observed = async (tx: Transaction): Promise<T> => {
        step = undefined
        return await run(
          decorated(tx, {
            put(key, value) {
              step = stepOf(key, value) ?? step
              tx.put(key, value)
            },
            delete(key) {
              if (key.startsWith(SEGMENT_STATE_ROWS)) step = 'segment forgotten'
              tx.delete(key)
            },
          }),
        ).finally(() => {
          if (step !== undefined) pass(passing, `before ${step}`)
        })
      }
      const committed = await inner.transact(observed, options)
      const done = step
      const durable = committed.durable.then(() => {
        pass(passing, 'after metadata commit')
        if (done !== undefined) pass(passing, `after ${done}`)
      })
      // As in the port: never an unhandled rejection.
      durable.catch(() => undefined)
      return { ...committed, durable }
    },
  })
}

function stepOf(key: ByteString, value: Uint8Array): SegmentStep | undefined {
  if (!key.startsWith(SEGMENT_STATE_ROWS)) return undefined
  switch (decodeSegment(value).state) {
    case 'open':
      return undefined
    case 'sealed':
      return 'mark sealed'
    case 'persisted':
      return 'mark persisted'
  }
}

/** Segment files only: it has others to look after. */
function crashingFileSystem(inner: FileSystem, passing: Passing): FileSystem {
  const isJournal = (path: string): boolean => /\/journal\/[0-9a-f]{32}\.seg$/.test(path)
  return decorated(inner, {
    async rename(from, to) {
      if (isJournal(from)) pass(passing, 'before adopt')
      await inner.rename(from, to)
      if (isJournal(from)) pass(passing, 'after adopt')
    },
    async remove(path) {
      if (isJournal(path)) pass(passing, 'before journal remove')
      await inner.remove(path)
      if (isJournal(path)) pass(passing, 'after journal remove')
    },
  })
}

const NAMES_STEPS = { delta: 'names delta', base: 'names base', records: 'names record' } as const

type NamesStep = (typeof NAMES_STEPS)[keyof typeof NAMES_STEPS]

/** By the names of objects (src/persist/names/object-names.ts). */
function namesStepOf(name: string): NamesStep | undefined {
  const kind = /^names\/[0-9a-f]{32}\/[0-9a-f]{16}-(delta|base|records)-/.exec(name)?.[1]
  return kind === undefined ? undefined : NAMES_STEPS[kind as keyof typeof NAMES_STEPS]
}

function crashingRemote(inner: RemoteStore, passing: Passing): RemoteStore {
  const around = async <T>(name: string, run: () => Promise<T>): Promise<T> => {
    const step = namesStepOf(name)
    if (step !== undefined) pass(passing, `before ${step}`)
    const result = await run()
    if (step !== undefined) pass(passing, `after ${step}`)
    return result
  }
  return decorated(inner, {
    put: (name, bytes, condition) => around(name, () => inner.put(name, bytes, condition)),
    putFile: (name, file, signal) =>
      around(name, async () => {
        if (!name.startsWith('segments/')) return await inner.putFile(name, file, signal)
        pass(passing, 'before upload')
        // Somewhere on its way: which bytes are there by then is chance.
        if (passing('during upload')) setTimeout(die, Math.random() * UPLOAD_MS_MAX)
        await inner.putFile(name, file, signal)
        pass(passing, 'after upload')
      }),
    async remove(names) {
      const step = names.some((name) => name.startsWith('segments/')) ? 'remote remove' : 'names remove'
      if (names.length > 0) pass(passing, `before ${step}`)
      await inner.remove(names)
      if (names.length > 0) pass(passing, `after ${step}`)
    },
  })
}
