/** etcd whose revisions begin higher (src/meta/raft/shifted-etcd.ts) is etcd to whoever uses it. */
import { expect, it } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import type { ByteString } from '../../src/common/ids.ts'
import { shiftedEtcd } from '../../src/meta/raft/shifted-etcd.ts'
import { FakeEtcd } from '../support/fake-etcd.ts'
import { put, testEtcd } from './etcd.ts'

const BASE = 5_000_000

const shared = new FakeEtcd({ clock: systemClock })
testEtcd('with revisions that begin higher', {
  start: () => Promise.resolve(),
  client: () => shiftedEtcd(shared.client(), BASE),
  compact: (revision) => Promise.resolve(shared.compact(revision - BASE)),
  stop: () => Promise.resolve(),
})

it('C3: its revisions are above the base', async () => {
  const etcd = shiftedEtcd(new FakeEtcd({ clock: systemClock }).client(), BASE)
  await etcd.start()
  const { revision } = await etcd.transact({ compares: [], success: [put('a' as ByteString, 'b')], failure: [] })
  expect(revision).toBeGreaterThan(BASE)
})
