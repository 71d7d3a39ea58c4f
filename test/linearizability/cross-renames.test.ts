// needs: etcd
/** Directories renamed across each other by two processes over one etcd; `npm run linearizability -- --renames N` is the long form. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { entryKey, inodeKey } from '../../src/meta/namespace/keys.ts'
import { encodeEntry, encodeInode } from '../../src/meta/namespace/records-objects.ts'
import type { Row } from '../../src/meta/ports.ts'
import { testSeed } from '../model/random.ts'
import { CrossRenames } from './cross-renames.ts'
import { faultsOf } from './tree-check.ts'

const renames = new CrossRenames()
beforeAll(() => renames.start(), 120_000)
afterAll(() => renames.end())

it('leave a tree: no orphan, no circle, every inode with one name (C1, C26)', async () => {
  const { done, refused } = await renames.run({ seed: testSeed(), renames: 200, faults: 0 })
  expect(done).toBeGreaterThan(50)
  // They did meet.
  expect(refused['NoSuchKey']).toBeGreaterThan(0)
  expect(refused['InvalidArgument']).toBeGreaterThan(0)
}, 120_000)

it('so they do while members are killed, paused and cut off (C6)', async () => {
  const { done, faults } = await renames.run({ seed: testSeed() + 1, renames: 100, faults: 2 })
  expect(done).toBeGreaterThan(20)
  expect(faults).toHaveLength(2)
}, 120_000)

const directory = (id: number, parent: number, name: string): { inode: Row; entry: Row } => ({
  inode: {
    key: inodeKey(id),
    value: encodeInode({
      kind: 'directory',
      parent,
      name,
      createdMs: 0,
      posix: undefined,
    }),
  },
  entry: {
    key: entryKey(parent, name),
    value: encodeEntry({ kind: 'directory', inode: id }),
  },
})

it('would be noticed if they did not', () => {
  const [root, a, b] = [directory(1, 0, 'bucket'), directory(2, 1, 'a/'), directory(3, 1, 'b/')]
  const wanted = [2, 3]
  const faults = (entries: Row[], inodes: Row[]): string =>
    faultsOf(entries, [root.inode, ...inodes], wanted).faults.join('; ')
  expect(faults([a.entry, b.entry], [a.inode, b.inode])).toBe('')
  expect(faults([a.entry], [a.inode, b.inode])).toContain('orphan')
  expect(faults([a.entry, b.entry], [a.inode])).toContain('inode 3 is gone')
  const [aUnderB, bUnderA] = [directory(2, 3, 'a/'), directory(3, 2, 'b/')]
  expect(faults([aUnderB.entry, bUnderA.entry], [aUnderB.inode, bUnderA.inode])).toContain('not below a root')
  expect(faults([a.entry, aUnderB.entry, b.entry], [a.inode, b.inode])).toContain('two names')
})
