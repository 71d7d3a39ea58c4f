import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import {
  cleanDeadMount,
  isDeadMount,
  parseMountInfo,
  resolveMountPoint,
} from '../../../../../src/gateway/fuse/channel/mount-table.ts'

const directories: string[] = []

afterEach(async () => {
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true })
})

async function scratch(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'tidegate-mounts-'))
  directories.push(directory)
  return directory
}

it('reads mountinfo: optional fields, escapes, lines that are none', () => {
  const text = [
    '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw',
    '40 22 0:41 / /mnt/a\\040b\\134c rw,nosuid shared:7 master:2 - fuse.tidegate data\\011x rw,user_id=0',
    '41 22 0:42 / /mnt/ü rw - fuse.tidegate data rw',
    'nonsense',
    '',
  ].join('\n')
  expect(parseMountInfo(text)).toEqual([
    { mountPoint: '/', type: 'ext4', source: '/dev/root', device: '254:0' },
    { mountPoint: '/mnt/a b\\c', type: 'fuse.tidegate', source: 'data\tx', device: '0:41' },
    { mountPoint: '/mnt/ü', type: 'fuse.tidegate', source: 'data', device: '0:42' },
  ])
})

it('resolves symbolic links, and names what is not there', async () => {
  const directory = await scratch()
  const link = join(directory, 'link')
  await symlink(directory, link)
  expect(await resolveMountPoint(link)).toBe(await resolveMountPoint(directory))
  await expect(resolveMountPoint(join(directory, 'absent'))).rejects.toMatchObject({
    code: 'InvalidArgument',
    details: { errno: 'ENOENT' },
  })
})

it('finds nothing to clean where nothing of ours is mounted', async () => {
  const directory = await scratch()
  expect(await isDeadMount(directory)).toBe(false)
  expect(await cleanDeadMount(directory)).toBe(false)
  expect(await cleanDeadMount(join(directory, 'absent'))).toBe(false)
})
