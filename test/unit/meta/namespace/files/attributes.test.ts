/** Extended attributes of directories that versions keep from going. */
import { expect, it } from 'vitest'
import type { ByteString } from '../../../../../src/common/ids.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { OWNER, fixture } from '../fixture.ts'

const MADE = { mode: 0o755, uid: 5, gid: 5, owner: OWNER }
const NAME = 'c' as ByteString
const ATTRIBUTE = 'user.a' as ByteString

it('C25: a hidden directory comes back with its attributes, and counts them', async () => {
  const made = await fixture({})
  const { files } = made.namespace
  const bucket = await files.makeDirectory(0, 'box' as ByteString, MADE)
  await made.namespace.setVersioning('box', 'enabled')
  const { value } = await files.makeDirectory(bucket.value.inode, NAME, MADE)
  await files.setFileAttribute(value.inode, ATTRIBUTE, Buffer.from('kept'), 'set')
  await made.put('box', 'c/x', { bytes: 'x' })
  await made.remove('box', 'c/x')
  await files.removeDirectory(bucket.value.inode, NAME)

  const back = await files.makeDirectory(bucket.value.inode, NAME, MADE)
  expect(back.value.inode).toBe(value.inode)
  expect(await files.fileAttributeNames(value.inode)).toEqual([ATTRIBUTE])
  expect(Buffer.from(await files.fileAttribute(value.inode, ATTRIBUTE)).toString()).toBe('kept')
  await checkNamespace(made.store)
  await files.removeFileAttribute(value.inode, ATTRIBUTE)
  await checkNamespace(made.store)
  await made.stop()
})
