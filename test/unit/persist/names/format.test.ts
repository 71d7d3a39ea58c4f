import { describe, expect, it } from 'vitest'
import * as fc from 'fast-check'
import type { ByteString, SegmentId } from '../../../../src/common/ids.ts'
import {
  decodeBaseEnd,
  decodeNamesObject,
  decodeRows,
  encodeBaseEnd,
  encodeNamesObject,
  encodeRows,
  headMatchesName,
  namesObjectCrc,
  type NamesHead,
} from '../../../../src/persist/names/format.ts'
import { namesObjectName, parseNamesObject, type NamesObjectName } from '../../../../src/persist/names/object-names.ts'
import type { NameRecord, NameRow } from '../../../../src/persist/names/ports.ts'
import { decodeRecords, encodeRecords } from '../../../../src/persist/names/record-format.ts'

const LINEAGE = '0123456789abcdef0123456789abcdef'
const RANDOM = '00ff00ff00ff00ff'

const HEAD: NamesHead = {
  kind: 'delta',
  lineage: LINEAGE,
  from: 2 ** 40,
  through: 2 ** 52 + 3,
  capturedMs: 1_790_000_000_000,
  part: 3,
  parts: 7,
  rows: 2,
  random: RANDOM,
}

const bytes = fc.uint8Array({ maxLength: 300 })
const row: fc.Arbitrary<NameRow> = fc.record({
  key: bytes.map((key) => Buffer.from(key).toString('latin1') as ByteString),
  value: fc.option(bytes, { nil: undefined }),
})
const rowsInOrder = fc
  .uniqueArray(row, { selector: ({ key }) => key, maxLength: 40 })
  .map((rows) => rows.toSorted((one, other) => (one.key < other.key ? -1 : 1)))

const record: fc.Arbitrary<NameRecord> = fc.record({
  revision: fc.maxSafeNat(),
  bucket: fc.string({ minLength: 3 }),
  key: fc.string({ unit: 'grapheme' }),
  bucketRow: bytes,
  inode: fc.maxSafeNat(),
  inodeRow: bytes,
  entryRow: bytes,
  extents: fc.array(
    fc.record({
      offset: fc.maxSafeNat(),
      length: fc.maxSafeNat(),
      segment: fc
        .uint8Array({ minLength: 16, maxLength: 16 })
        .map((id) => Buffer.from(id).toString('hex') as SegmentId),
      segmentOffset: fc.maxSafeNat(),
    }),
    { maxLength: 5 },
  ),
})

describe('an object under names/', () => {
  it('gives back its head and payload, compressed or not', async () => {
    for (const payload of [
      Buffer.alloc(0),
      Buffer.from('short'),
      Buffer.alloc(100_000, 'the same again '),
      noise(5000),
    ]) {
      const decoded = await decodeNamesObject(await encodeNamesObject(HEAD, payload))
      expect(decoded.head).toEqual(HEAD)
      expect(decoded.payload.equals(payload)).toBe(true)
    }
  })

  it('is smaller than its payload when that repeats itself', async () => {
    expect((await encodeNamesObject(HEAD, Buffer.alloc(100_000, 'again'))).length).toBeLessThan(1000)
  })

  it('is refused with any bit flipped, and cut anywhere', async () => {
    const whole = await encodeNamesObject(HEAD, Buffer.alloc(700, 'payload '))
    for (let at = 0; at < whole.length; at++) {
      const flipped = Buffer.from(whole)
      flipped[at]! ^= 1 << (at % 8)
      await expect(decodeNamesObject(flipped)).rejects.toMatchObject({ code: 'DataLost' })
      await expect(decodeNamesObject(whole.subarray(0, at))).rejects.toMatchObject({ code: 'DataLost' })
    }
  })

  it('is taken only for what its name says', async () => {
    const { head } = await decodeNamesObject(await encodeNamesObject(HEAD, Buffer.alloc(0)))
    const name = { kind: 'delta', after: HEAD.from, through: HEAD.through, random: RANDOM, part: 3, parts: 7 } as const
    expect(headMatchesName(head, LINEAGE, name)).toBe(true)
    expect(headMatchesName(head, LINEAGE.replace('0', '1'), name)).toBe(false)
    expect(headMatchesName(head, LINEAGE, { ...name, part: 4 })).toBe(false)
    expect(headMatchesName(head, LINEAGE, { ...name, through: name.through + 1 })).toBe(false)
    expect(headMatchesName(head, LINEAGE, { ...name, random: '0000000000000000' })).toBe(false)
    expect(headMatchesName(head, LINEAGE, { kind: 'base-part', begin: HEAD.from, random: RANDOM, part: 3 })).toBe(false)
  })

  it('is laid out as docs/formats.md says', async () => {
    const encoded = await encodeNamesObject(
      { ...HEAD, from: 5, through: 6 },
      encodeRows([{ key: 'B\x01a' as ByteString, value: undefined }]),
    )
    expect(encoded.toString('latin1', 0, 4)).toBe('TGN1')
    expect([...encoded.subarray(8, 12)]).toEqual([1, 3, 0, 0])
    expect(encoded.readUInt32LE(12)).toBe(2)
    expect(encoded.toString('hex', 16, 32)).toBe(LINEAGE)
    expect([32, 40, 64].map((at) => Number(encoded.readBigUInt64LE(at)))).toEqual([5, 6, 5])
    expect(encoded.toString('hex', 72, 80)).toBe(RANDOM)
    expect(encoded.toString('latin1', 80)).toBe('\x03B\x01a\0')
    expect(namesObjectCrc(encoded)).toBe(encoded.readUInt32LE(4))
  })
})

describe('payloads', () => {
  it('give back rows, gone ones and empty ones among them', () => {
    fc.assert(
      fc.property(rowsInOrder, (rows) => {
        const decoded = decodeRows(encodeRows(rows), rows.length)
        expect(decoded.map(({ key, value }) => ({ key, value: value && Buffer.from(value).toString('hex') }))).toEqual(
          rows.map(({ key, value }) => ({ key, value: value && Buffer.from(value).toString('hex') })),
        )
      }),
    )
  })

  it('are refused when they hold more, fewer or unordered rows', () => {
    const rows: NameRow[] = ['a', 'b'].map((key) => ({ key: key as ByteString, value: Buffer.from('v') }))
    const encoded = encodeRows(rows)
    expect(() => decodeRows(encoded, 1)).toThrow(/more than/)
    expect(() => decodeRows(encoded, 3)).toThrow(/ends within/)
    expect(() => decodeRows(encodeRows(rows.toReversed()), 2)).toThrow(/order/)
  })

  it('give back records', () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 6 }), (records) => {
        const plain = ({ bucketRow, inodeRow, entryRow, ...rest }: NameRecord): unknown => ({
          ...rest,
          rows: [bucketRow, inodeRow, entryRow].map((one) => Buffer.from(one).toString('hex')),
        })
        expect(decodeRecords(encodeRecords(records), records.length).map(plain)).toEqual(records.map(plain))
      }),
    )
  })

  it('give back the end of a base', () => {
    const parts = [
      { crc: 0xffff_ffff, bytes: 17 },
      { crc: 0, bytes: 4_000_000_000 },
    ]
    expect(decodeBaseEnd(encodeBaseEnd(parts), 2)).toEqual(parts)
    expect(() => decodeBaseEnd(encodeBaseEnd(parts), 3)).toThrow(/all its parts/)
  })
})

describe('names of objects', () => {
  const names: NamesObjectName[] = [
    { kind: 'delta', after: 1, through: 2 ** 52, random: RANDOM, part: 0, parts: 1 },
    { kind: 'base-part', begin: 9, random: RANDOM, part: 0xabcdef },
    { kind: 'base-whole', begin: 9, end: 12, random: RANDOM, parts: 3 },
    { kind: 'records', from: 3, through: 4, random: RANDOM },
  ]

  it.each(names)('say what $kind it is', (name) => {
    const object = { name: namesObjectName(LINEAGE, name), bytes: 5, modifiedMs: 6 }
    expect(parseNamesObject(object)).toEqual({ ...name, ...object, lineage: LINEAGE })
    expect(object.name.length).toBeLessThan(255)
  })

  it('sort by revision', () => {
    const deltas = [255, 256, 4096, 2 ** 33].map((through) =>
      namesObjectName(LINEAGE, { kind: 'delta', after: 0, through, random: RANDOM, part: 0, parts: 1 }),
    )
    expect(deltas.toSorted()).toEqual(deltas)
  })

  it('leave alone what is not theirs', () => {
    for (const name of [
      'names/readme',
      `names/${LINEAGE}/x`,
      `names/${LINEAGE}/0000000000000001-delta-1`,
      'segments/aa/x.seg',
    ])
      expect(parseNamesObject({ name, bytes: 1, modifiedMs: 1 })).toBeUndefined()
  })
})

function noise(length: number): Buffer {
  const made = Buffer.alloc(length)
  for (let at = 0, state = 1; at < length; at++) {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    made[at] = state >>> 16
  }
  return made
}
