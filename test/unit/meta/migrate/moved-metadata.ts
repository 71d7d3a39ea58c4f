/** Metadata in an embedded engine, as a test of moving them wants them: rows of all tables, counters, and what belongs to the engine. */
import { createHash } from 'node:crypto'
import { systemClock, type Clock } from '../../../../src/common/clock.ts'
import type { ByteString } from '../../../../src/common/ids.ts'
import { MemoryBackend, MemoryDisk } from '../../../../src/meta/memory/memory-backend.ts'
import { embeddedPages } from '../../../../src/meta/migrate/embedded-rows.ts'
import {
  integerBytes,
  segmentLiveKey,
  segmentStateKey,
  TOKEN_COUNT_KEY,
  usageKey,
} from '../../../../src/meta/namespace/keys.ts'
import { encodeSegment } from '../../../../src/meta/namespace/records-contents.ts'
import type { Row } from '../../../../src/meta/ports.ts'
import { EtcdLayout } from '../../../../src/meta/raft/layout.ts'
import type { Backend } from '../../../../src/meta/stage/ports.ts'
import { addCounters } from '../../../../src/meta/stage/counters.ts'
import { encodeState, STATE_KEY } from '../../../../src/meta/stage/stage-state.ts'
import { FakeEtcd } from '../../../support/fake-etcd.ts'

export const bytes = (text: string): ByteString => text as ByteString
export const LAYOUT: EtcdLayout = new EtcdLayout('/moved/')
export const NAME: ByteString = bytes('0123456789abcdef')
export const HANDED_OUT = 1_048_580

/** Sleeps for no time at all. */
export const HURRIED: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: () => Promise.resolve(),
}

/** Of 32 operations a transaction, so that pages are small. */
export function smallEtcd(): FakeEtcd {
  return new FakeEtcd({ clock: systemClock, callTimeoutMs: 200, limits: { operationsMax: 32 } })
}

export function segmentId(number: number): ReturnType<typeof String> {
  return createHash('md5').update(String(number)).digest('hex')
}

export async function embedded(disk: MemoryDisk): Promise<Backend> {
  const backend = new MemoryBackend({ disk })
  await backend.open()
  return backend
}

/** `count` objects with what belongs to them. */
export async function someMetadata(count: number): Promise<MemoryDisk> {
  const disk = new MemoryDisk()
  const backend = await embedded(disk)
  const rows = new Map<ByteString, Uint8Array>()
  const state = { revision: 4, reservedThrough: HANDED_OUT, trimmedThrough: 0, loggedRevisions: 2 }
  rows.set(STATE_KEY, encodeState(state))
  rows.set(bytes('M\x01keys'), new Uint8Array(9))
  for (let index = 0; index < count; index++) {
    const value = createHash('sha512')
      .update(String(index))
      .digest()
      .subarray(0, index % 64)
    rows.set(bytes(`D\x01${integerBytes(1)}name ${index}\xff\0`), value)
    rows.set(bytes(`I\x01${integerBytes(index)}`), value)
    rows.set(bytes(`J\x01${integerBytes(index)}0000`), value)
    rows.set(bytes(`Y\x01${integerBytes(index)}0000`), value)
    rows.set(bytes(`Z\x01u${integerBytes(index)}`), new Uint8Array(0))
  }
  for (let index = 0; index < 40; index++) {
    const segment = segmentId(index) as Parameters<typeof segmentLiveKey>[0]
    rows.set(segmentStateKey(segment), encodeSegment({ state: 'sealed', bytes: index }))
    rows.set(segmentLiveKey(segment), addCounters(undefined, [index - 3]))
    rows.set(usageKey(index, 'local'), addCounters(undefined, [index, -(2 ** 40) * index]))
  }
  rows.set(TOKEN_COUNT_KEY, addCounters(undefined, [7]))
  await backend.commit([rows])
  await backend.close()
  return disk
}

/** What can be moved, as text. */
export async function contentsOf(disk: MemoryDisk): Promise<string[]> {
  const backend = await embedded(disk)
  const rows: Row[] = [...embeddedPages(backend, bytes(''))].flat()
  await backend.close()
  return rows.map(
    ({ key, value }) => `${Buffer.from(key, 'latin1').toString('hex')} ${Buffer.from(value).toString('hex')}`,
  )
}
