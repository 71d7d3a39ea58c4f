import { describe, expect, it } from 'vitest'
import {
  backupIdOf,
  backupObjectName,
  compareAges,
  decodeManifest,
  encodeManifest,
  newBackupId,
} from '../../../../src/persist/names/manifest.ts'

const ID = '20261122T063918Z-00ff'
const MANIFEST = {
  id: ID,
  lineage: 'b'.repeat(32),
  createdMs: 1_795_329_558_000,
  revision: 77,
  stateMs: 1_795_329_557_000,
  newestSegment: 'f'.repeat(32),
  objects: [{ name: 'names/x', bytes: 5 }],
}

describe('the manifest of a backup', () => {
  it('is given back', () => {
    expect(decodeManifest(encodeManifest(MANIFEST), ID)).toEqual(MANIFEST)
  })

  it('is refused when it was changed, cut, or is that of another', () => {
    const text = encodeManifest(MANIFEST).toString()
    expect(() => decodeManifest(Buffer.from(text.replace('77', '78')), ID)).toThrow(/checksum/)
    expect(() => decodeManifest(Buffer.from(text.slice(0, -20)), ID)).toThrow(/cannot be used/)
    expect(() => decodeManifest(Buffer.from(text), '20261122T063918Z-00fe')).toThrow(/that of backup/)
  })

  it('has an id that is a time', () => {
    const id = newBackupId(Date.UTC(2026, 10, 22, 6, 39, 18, 123), (bytes) => bytes.set([0, 255]))
    expect(id).toBe(ID)
    expect(backupIdOf(backupObjectName(id))).toBe(id)
    expect(backupIdOf('backups/notes.json')).toBeUndefined()
  })

  it('is ordered by age, also against others of the same second', () => {
    const inOrder = [
      { id: '20261122T063917Z-ffff', createdMs: 1_795_329_557_000, revision: 90 },
      { id: '20261122T063918Z-7777' },
      { id: '20261122T063918Z-f5ef', createdMs: 1_795_329_558_001, revision: 177 },
      { id: '20261122T063918Z-00ff', createdMs: 1_795_329_558_002, revision: 77 },
      { id: '20261122T063918Z-00aa', createdMs: 1_795_329_558_002, revision: 178 },
      { id: '20261122T063919Z-0000', createdMs: 1_795_329_559_000, revision: 1 },
    ]
    expect(inOrder.toReversed().toSorted(compareAges)).toEqual(inOrder)
  })
})
