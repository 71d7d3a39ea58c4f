/** C28: what S3 and KV are told of owner, mode and target of what the mount made. */
import { expect, test } from 'vitest'
import { utf8Bytes, type ByteString } from '../../../../../src/common/ids.ts'
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

test('C28: a target of more than 1,024 bytes, or that is no UTF-8, is the body only', async () => {
  const made = await fixture()
  await made.bucket('box')
  const { files } = made.namespace
  const { inode } = await files.findFile(0, 'box' as ByteString)
  const shownOf = async (name: string, target: ByteString): Promise<string | undefined> => {
    const link = { uid: 1, gid: 2, owner: 'owner', kind: 'symlink', mode: 0o777, target } as const
    await files.makeFile(inode, name as ByteString, link)
    const { fileMetadata, body } = await made.namespace.lookup('box', name)
    expect(body).toEqual({ kind: 'inline', bytes: Buffer.from(target, 'latin1') })
    expect(fileMetadata).toMatchObject({ 'file-permissions': '0120777' })
    return fileMetadata?.['file-target']
  }
  // Bytes count, and not characters.
  expect(await shownOf('longest', utf8Bytes('ä'.repeat(512)))).toBe('ä'.repeat(512))
  expect(await shownOf('longer', utf8Bytes(`${'ä'.repeat(512)}x`))).toBe(undefined)
  expect(await shownOf('not-utf8', 'a/\xff' as ByteString)).toBe(undefined)
  expect(await shownOf('cut-short', '\xc3' as ByteString)).toBe(undefined)
  await made.stop()
})
