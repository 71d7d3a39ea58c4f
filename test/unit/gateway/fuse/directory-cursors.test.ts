import { expect, it, vi } from 'vitest'
import type { ByteString } from '../../../../src/common/ids.ts'
import { DirectoryCursor, FIRST_NAME_POSITION } from '../../../../src/gateway/fuse/directory-cursors.ts'
import { FakeFileDoor } from '../../../support/fake-file-door.ts'

const COUNT = 2_000

async function directory(): Promise<{ files: FakeFileDoor; cursor: DirectoryCursor; names: string[] }> {
  const files = new FakeFileDoor({ uid: 0, gid: 0 })
  const names = Array.from({ length: COUNT }, (_, index) => `name-${String(index).padStart(6, '0')}`)
  for (const name of names) files.put(0, name, '')
  return { files, cursor: new DirectoryCursor(files, 0), names }
}

async function readOn(cursor: DirectoryCursor, from: number, step: number): Promise<string[]> {
  const seen: string[] = []
  for (let position = from; ; position += step) {
    const { entries } = await cursor.from(position)
    if (entries.length === 0) return seen
    seen.push(...entries.slice(0, step).map(({ name }) => name))
    if (entries.length < step) position -= step - entries.length
  }
}

it.each([1, 24, 511, 512, 513, 5_000])('gives every name once to who takes %i at a time', async (step) => {
  const { cursor, names } = await directory()
  expect(await readOn(cursor, FIRST_NAME_POSITION, step)).toEqual(names)
})

it('goes back to any position it gave out', async () => {
  const { cursor, names } = await directory()
  await readOn(cursor, FIRST_NAME_POSITION, 100)
  expect(await readOn(cursor, FIRST_NAME_POSITION + 1_234, 100)).toEqual(names.slice(1_234))
  expect(await readOn(cursor, FIRST_NAME_POSITION + 3, 100)).toEqual(names.slice(3))
})

it('does not bring back what was removed after the page was read', async () => {
  const { files, cursor, names } = await directory()
  const first = await cursor.freshFrom(FIRST_NAME_POSITION, 10)
  expect(first.entries.map(({ name }) => name)).toEqual(names.slice(0, 10))
  await files.remove(0, names[12] as ByteString)
  const { entries } = await cursor.freshFrom(FIRST_NAME_POSITION + 10, 4)
  expect(entries.map(({ name }) => name)).toEqual([names[10], names[11], names[13], names[14]])
})

it('goes on behind a directory where listings put it: after its name with a slash', async () => {
  const files = new FakeFileDoor({ uid: 0, gid: 0 })
  const entries = vi.spyOn(files, 'entries')
  await files.makeDirectory(0, 'a' as ByteString, { mode: 0o755, uid: 0, gid: 0 })
  files.put(0, 'a-b', '')
  const cursor = new DirectoryCursor(files, 0)
  const names = []
  for (const position of [2, 3, 4]) names.push(...(await cursor.freshFrom(position, 1)).entries.map(({ name }) => name))
  expect(names).toEqual(['a-b', 'a'])
  expect(entries).toHaveBeenLastCalledWith(0, 'a/', 1)
})
