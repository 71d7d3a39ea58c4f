import { expect, it } from 'vitest'
import {
  deviceError,
  deviceErrorFrom,
  isEnd,
  programError,
} from '../../../../../src/gateway/fuse/channel/device-errors.ts'
import { checkMountName, kernelMountOptions } from '../../../../../src/gateway/fuse/channel/mount-options.ts'

it('names the errno, in words and as a detail', () => {
  const error = deviceError('mounting', 1)
  expect(error).toMatchObject({ code: 'Unavailable', details: { errno: 'EPERM' } })
  expect(error.message).toContain('--cap-add SYS_ADMIN')
  const system = Object.assign(new Error('x'), { errno: -22 })
  expect(deviceErrorFrom('reply', system, 'Internal')).toMatchObject({ code: 'Internal', details: { errno: 'EINVAL' } })
  expect(deviceErrorFrom('reply', 'no error at all').message).toBe('reply: no error at all')
})

it.for([
  ['fusermount3: failed to open /dev/fuse: Permission denied', 'EACCES'],
  ["fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf", 'EPERM'],
  ['umount: /x: target is busy.', 'EBUSY'],
  ['something else', 'EIO'],
] as const)('reads what programs say: %s', ([message, errno]) => {
  expect(programError('mount', message)).toMatchObject({ message: `mount: ${message}`, details: { errno } })
})

it('takes an unmounted and an aborted connection for its end', () => {
  expect([19, 103, 5].map(isEnd)).toEqual([true, true, false])
})

it('makes the kernel options of a mount, and lets no name add to them', () => {
  const options = {
    mountPoint: '/x',
    name: 'data',
    allowOther: true,
    defaultPermissions: true,
    writeBytesMax: 4096,
    slotCount: 1,
    spinUsMax: 0,
  }
  expect(kernelMountOptions(9, options)).toMatch(
    /^fd=9,rootmode=40000,user_id=\d+,group_id=\d+,allow_other,default_permissions$/,
  )
  for (const name of ['', 'a,suid', 'a b', 'x'.repeat(65)]) expect(() => checkMountName(name)).toThrow('mount name')
  checkMountName('tidegate-1.2:data')
})
