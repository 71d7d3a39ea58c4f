import { expect, it } from 'vitest'
import type { ByteString } from '../../../../src/common/ids.ts'
import { RowLayer } from '../../../../src/meta/stage/row-layer.ts'

it.each([1, 7, 40, 600])(
  'has its keys in order, whatever the tables they were written to in turn: %i at once',
  (atOnce) => {
    const layer = new RowLayer()
    const written = new Set<string>()
    for (let count = 0; count < 2000; count++) {
      const table = ['D', 'I', '\xff', 'Z', ''][count % 5] ?? ''
      const key = `${table}${String((count * 7919) % 1500)}` as ByteString
      layer.set(key, new Uint8Array(count % 3))
      written.add(key)
      if (count % atOnce === 0) expect(layer.sortedKeys()).toEqual([...written].sort())
    }
    expect(layer.sortedKeys()).toEqual([...written].sort())
    expect(layer.size).toBe(written.size)
  },
)
