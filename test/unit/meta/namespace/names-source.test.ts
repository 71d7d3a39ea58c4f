import { expect, it } from 'vitest'
import type { ByteString, Revision } from '../../../../src/common/ids.ts'
import { createMemoryStore } from '../../../../src/meta/memory/memory-store.ts'
import { entryKey } from '../../../../src/meta/namespace/keys.ts'
import { readChangedRows } from '../../../../src/meta/namespace/names-delta.ts'
import { isName, NAMES_KEY_LOG } from '../../../../src/meta/namespace/names-source.ts'
import { fixture, fixtureOn, OWNER, type Fixture } from './fixture.ts'

const MIB = 1024 * 1024

function logged(): Promise<Fixture> {
  return fixture({ keyLog: NAMES_KEY_LOG })
}

it('C17: rows read before others changed again are as they were at the one revision of the capture', async () => {
  const store = createMemoryStore({ keyLog: NAMES_KEY_LOG })
  await store.start()
  const keyOf = (row: number): ByteString => entryKey(1, `row-${row}`)
  const write = async (rows: readonly number[], text: string): Promise<void> => {
    await (
      await store.transact((tx) => Promise.resolve(rows.forEach((row) => tx.put(keyOf(row), Buffer.from(text)))))
    ).durable
  }
  const all = Array.from({ length: 1000 }, (_, row) => row)
  await write(all, 'first')
  let ms = 0
  let writes = 0
  const clock = {
    nowMs: () => ms,
    // Every step is a turn of its own, and somebody writes in each of the first.
    monotonicMs: () => (ms += 10),
    sleep: async () => {
      if (writes++ < 5) await write([0, 999], `write ${writes}`)
    },
  }
  const read = await readChangedRows(
    { readDurable: (fn) => store.readDurable(fn), clock },
    { after: 0, bytesMax: MIB },
    () => 0,
  )
  expect(writes).toBeGreaterThan(5)
  expect(read?.changed.through).toBe(store.durableRevision())
  expect(read?.changed.rows.size).toBe(1000)
  for (const row of [0, 999]) expect(Buffer.from(read!.changed.rows.get(keyOf(row))!).toString()).toBe('write 5')
  await store.stop()
})

it('a delta has what changed, what is gone, and the segments that it waits for; not counters or logs', async () => {
  const { namespace, bucket, put, run, remove, segment, stop } = await logged()
  await bucket('bucket')
  await put('bucket', 'gone', { bytes: 'x' })
  await namespace.flush()
  const before = namespace.durableRevision()
  await put('bucket', 'kept', { run: await run(100) })
  await remove('bucket', 'gone')
  await namespace.flush()
  const delta = (await namespace.names.delta(before, MIB))!
  expect(delta.through).toBe(namespace.durableRevision())
  expect(delta.unpersisted).toEqual([segment])
  expect(delta.rows.map(({ key }) => key)).toEqual(delta.rows.map(({ key }) => key).toSorted())
  expect(delta.rows.every(({ key }) => isName(key))).toBe(true)
  const ends = (text: string): (boolean | undefined)[] =>
    delta.rows.filter(({ key }) => key.startsWith('D') && key.endsWith(text)).map(({ value }) => value !== undefined)
  expect([ends('kept'), ends('gone')]).toEqual([[true], [false]])
  await namespace.segmentChanged(segment, 'sealed', 100)
  await namespace.segmentChanged(segment, 'persisted', 100)
  await namespace.flush()
  expect((await namespace.names.delta(delta.through, MIB))?.unpersisted).toEqual([])
  await stop()
})

it('is asked for a base when too much has changed, or the log was trimmed, or was not kept for a while', async () => {
  const first = await logged()
  await first.bucket('bucket')
  for (let put = 0; put < 20; put++) await first.put('bucket', `key-${put}`, { bytes: 'x'.repeat(500) })
  await first.namespace.flush()
  const { names } = first.namespace
  expect(await names.delta(0, 5000)).toBeUndefined()
  const middle = 5
  names.shipped(middle)
  await first.put('bucket', 'more')
  await first.namespace.flush()
  expect(await names.delta(middle - 1, MIB)).toBeUndefined()
  expect(await names.delta(middle, MIB)).toBeDefined()
  await first.stop()
})

it('describes an object as it is by now, and an older version not at all', async () => {
  const { namespace, bucket, put, remove, stop } = await logged()
  await bucket('plain')
  await bucket('versioned', 'enabled')
  const described = async (
    name: string,
    key: string,
    version: { inode: number; revision: Revision },
  ): Promise<unknown> => (await namespace.names.describe([{ bucket: name, key, ...version }]))[0]
  for (const name of ['plain', 'versioned']) {
    const older = await put(name, 'dir/key', { bytes: 'older' })
    expect(await described(name, 'dir/key', older)).toMatchObject({ bucket: name, key: 'dir/key', inode: older.inode })
    const newer = await put(name, 'dir/key', { bytes: 'newer' })
    const found = await described(name, 'dir/key', older)
    if (name === 'plain') expect(found).toMatchObject({ inode: newer.inode })
    else expect(found).toBeUndefined()
    await remove(name, 'dir/key')
    expect(await described(name, 'dir/key', newer)).toBeUndefined()
  }
  await stop()
})

it('describes no object whose bytes have not arrived', async () => {
  const { namespace, bucket, put, run, segment, stop } = await fixtureOn(createMemoryStore({ keyLog: NAMES_KEY_LOG }))
  await bucket('bucket')
  const version = await put('bucket', 'key', { run: await run(10) })
  expect(await namespace.names.describe([version])).toEqual([undefined])
  await namespace.segmentChanged(segment, 'sealed', 10)
  await namespace.segmentChanged(segment, 'persisted', 10)
  const [found] = await namespace.names.describe([version])
  expect(found?.extents).toEqual([{ offset: 0, length: 10, segment, segmentOffset: 0 }])
  expect(OWNER).toBe(version.owner)
  await stop()
})

it('C17: describes as of a revision that a power cut cannot take back: the remote store would be ahead of the directory', async () => {
  const held = Promise.withResolvers<void>()
  let isHeld = false
  const beforeCommit = (): Promise<void> => (isHeld ? held.promise : Promise.resolve())
  const { namespace, bucket, put, stop } = await fixtureOn(createMemoryStore({ keyLog: NAMES_KEY_LOG, beforeCommit }))
  await bucket('bucket')
  const version = await put('bucket', 'key', { bytes: 'durable' })
  await namespace.flush()
  isHeld = true
  await put('bucket', 'other', { bytes: 'not yet' })
  const [found] = await namespace.names.describe([version])
  const durable = namespace.durableRevision()
  expect([found?.inode, found?.revision]).toEqual([version.inode, durable])
  expect(namespace.revision()).toBeGreaterThan(durable)
  held.resolve()
  await stop()
})
