/** C28: what S3 and KV are told of owner, mode and target of what the mount made. */
import { expect, test } from 'vitest'
import type { ByteString } from '../../../../../src/common/ids.ts'
import { PLAIN, fixture } from '../fixture.ts'

test('C28: a file of the mount, a symlink and an object of S3', async () => {
  const made = await fixture()
  await made.bucket('box')
  const { files } = made.namespace
  const { inode } = await files.findFile(0, 'box' as ByteString)
  const owned = { uid: 12, gid: 34, owner: 'owner' }
  await files.makeFile(inode, 'file' as ByteString, { ...owned, kind: 'file', mode: 0o4640 })
  const target = 'ä/b' as ByteString
  const link = {
    ...owned,
    kind: 'symlink',
    mode: 0o777,
    target: Buffer.from(target).toString('latin1') as ByteString,
  } as const
  await files.makeFile(inode, 'link' as ByteString, link)
  const metadataOf = async (key: string): Promise<unknown> => (await made.namespace.lookup('box', key)).fileMetadata
  const time = { 'file-mtime': '1700000000000000000ns' }
  const numbers = { 'file-owner': '12', 'file-group': '34', ...time }
  expect(await metadataOf('file')).toEqual({ ...numbers, 'file-permissions': '0104640' })
  expect(await metadataOf('link')).toEqual({ ...numbers, 'file-permissions': '0120777', 'file-target': 'ä/b' })
  await made.put('box', 'object', { bytes: 'x', attributes: PLAIN })
  expect(await metadataOf('object')).toBe(undefined)
  expect(await files.fileCount()).toBe(4)
  await made.stop()
})
