import { afterEach, describe, expect, test } from 'vitest'
import { utf8Bytes, type ByteString, type InodeId } from '../../../../../src/common/ids.ts'
import type { FileChange } from '../../../../../src/common/file-model.ts'
import type { MetadataFiles } from '../../../../../src/store/file-ports.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { OWNER, fixture, type Fixture } from '../fixture.ts'

const open: Fixture[] = []
const kept = new Set<InodeId>()

afterEach(async () => {
  kept.clear()
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

async function begin(versioning?: 'enabled'): Promise<Fixture & { root: InodeId }> {
  const files = { fileMode: 0o640, directoryMode: 0o750, uid: 7, gid: 8 }
  const made = await fixture({}, { files })
  made.namespace.files.keepFiles((inode) => kept.has(inode))
  open.push(made)
  await made.bucket('box', versioning)
  return { ...made, root: (await made.namespace.files.findFile(0, name('box'))).inode }
}

function name(text: string): ByteString {
  return utf8Bytes(text)
}

const MADE = { mode: 0o600, uid: 1, gid: 2, owner: OWNER }

async function makeFile(made: Fixture, parent: InodeId, text: string): Promise<InodeId> {
  return (await made.namespace.files.makeFile(parent, name(text), { ...MADE, kind: 'file' })).value.inode
}

async function makeDirectory(made: Fixture, parent: InodeId, text: string): Promise<InodeId> {
  return (await made.namespace.files.makeDirectory(parent, name(text), MADE)).value.inode
}

async function names(made: Fixture, directory: InodeId, limit = 100): Promise<string[]> {
  const found: string[] = []
  let after: ByteString | undefined
  for (let more = true; more;) {
    const page = await made.namespace.files.fileEntries(directory, after, limit)
    found.push(...page.entries.map((entry) => entry.name))
    const last = page.entries.at(-1)
    if (last) after = (last.node.kind === 'directory' ? `${last.name}/` : last.name) as ByteString
    more = page.more
  }
  return found
}

async function keys(made: Fixture): Promise<string[]> {
  const page = await made.namespace.list({ bucket: 'box', prefix: '', delimiter: '', after: '', limit: 1000 })
  return page.objects.map((object) => object.key)
}

const code = (wanted: string): object => ({ code: wanted })

describe('what S3 made', () => {
  test('is shown with the defaults, and by names that POSIX has', async () => {
    const made = await begin()
    for (const key of ['a/b', 'a//c', 'a/..', 'a/.', `a/${'x'.repeat(256)}`, 'a/n\0', 'a/']) await made.put('box', key)
    const a = await made.namespace.files.findFile(made.root, name('a'))
    expect(a).toMatchObject({ kind: 'directory', mode: 0o750, uid: 7, gid: 8, links: 1 })
    expect(await made.namespace.files.findFile(a.inode, name('b'))).toMatchObject({ kind: 'file', mode: 0o640, uid: 7 })
    expect(await names(made, a.inode)).toEqual(['b'])
    for (const bad of ['.', '..', '', 'n\0', 'a/b']) {
      await expect(made.namespace.files.findFile(a.inode, name(bad))).rejects.toMatchObject(code('NoSuchKey'))
    }
    await expect(made.namespace.files.findFile(a.inode, name('x'.repeat(256)))).rejects.toMatchObject(
      code('KeyTooLong'),
    )
    await expect(made.namespace.files.removeDirectory(made.root, name('a'))).rejects.toMatchObject(
      code('DirectoryNotEmpty'),
    )
  })

  test('an object beside a directory is listed under the reserved suffix, on any page', async () => {
    const made = await begin()
    for (const key of ['a', 'a-b', 'a.c', 'a/1', 'a0', 'b', 'b.tidegate-object', 'b/1']) await made.put('box', key)
    const wanted = ['a.tidegate-object', 'a-b', 'a.c', 'a', 'a0', 'b.tidegate-object', 'b']
    for (const limit of [1, 2, 3, 4, 100]) expect(await names(made, made.root, limit)).toEqual(wanted)
    const { files } = made.namespace
    expect((await files.findFile(made.root, name('a'))).kind).toBe('directory')
    const shadowed = await files.findFile(made.root, name('a.tidegate-object'))
    expect(await files.keyOf(shadowed.inode)).toEqual({ bucket: 'box', key: 'a' })
    await files.renameFile(
      { parent: made.root, name: name('a.tidegate-object') },
      { parent: made.root, name: name('z') },
      { mode: 'replace', keep: () => false },
    )
    expect(await keys(made)).toEqual(['a-b', 'a.c', 'a/1', 'a0', 'b', 'b.tidegate-object', 'b/1', 'z'])
  })

  test('C25: a change through the mount makes a directory explicit, so that it stays', async () => {
    const made = await begin()
    await made.put('box', 'a/b')
    const { inode } = await made.namespace.files.findFile(made.root, name('a'))
    await made.namespace.files.removeFile(inode, name('b'), { keep: false, owner: OWNER })
    expect(await keys(made)).toEqual(['a/'])
    await made.namespace.files.removeDirectory(made.root, name('a'))
    expect(await keys(made)).toEqual([])
    await expect(made.namespace.files.makeFile(inode, name('x'), { ...MADE, kind: 'file' })).rejects.toMatchObject(
      code('NoSuchKey'),
    )
    await expect(made.namespace.files.fileNode(inode)).rejects.toMatchObject(code('StaleFile'))
  })

  test('what has expired is not shown and does not hold a directory', async () => {
    const made = await begin()
    const inode = await makeDirectory(made, made.root, 'a')
    await made.put('box', 'a/b', { ttlMs: 5 })
    await expect(made.namespace.files.removeDirectory(made.root, name('a'))).rejects.toMatchObject(
      code('DirectoryNotEmpty'),
    )
    made.clock.ms += 5
    expect(await names(made, inode)).toEqual([])
    await makeFile(made, inode, 'b')
    await made.namespace.files.removeFile(inode, name('b'), { keep: false, owner: OWNER })
    await made.put('box', 'a/c', { ttlMs: 5 })
    made.clock.ms += 5
    await made.namespace.files.removeDirectory(made.root, name('a'))
    expect(await names(made, made.root)).toEqual([])
  })

  test('C27: a PUT over a file is a new inode with its owner and mode; the open one stays', async () => {
    for (const versioning of [undefined, 'enabled'] as const) {
      const made = await begin(versioning)
      const inode = await makeFile(made, made.root, 'f')
      await made.namespace.files.setFileAttribute(inode, name('user.a'), Buffer.from('1'), 'set')
      kept.add(inode)
      await made.put('box', 'f', { bytes: 'new' })
      const after = await made.namespace.files.findFile(made.root, name('f'))
      expect(after).toMatchObject({ mode: 0o600, uid: 1, gid: 2, size: 3, links: 1 })
      expect(after.inode).not.toBe(inode)
      if (versioning) continue
      expect(await made.namespace.files.orphanedFiles(10)).toEqual([inode])
      expect(await made.namespace.files.fileNode(inode)).toMatchObject({ links: 0, mode: 0o600 })
      await checkNamespace(made.store)
      await made.namespace.files.dropFile(inode)
      await made.reclaim()
      expect(await made.namespace.files.orphanedFiles(10)).toEqual([])
      await expect(made.namespace.files.fileAttribute(inode, name('user.a'))).rejects.toMatchObject(code('StaleFile'))
    }
  })
})

describe('what the mount makes', () => {
  test('shows to S3: directories as markers, symlinks as objects that hold their target', async () => {
    const made = await begin()
    const inode = await makeDirectory(made, made.root, 'd')
    await made.namespace.files.makeFile(inode, name('l'), { ...MADE, kind: 'symlink', target: name('../é') })
    expect(await keys(made)).toEqual(['d/', 'd/l'])
    expect(await made.namespace.lookup('box', 'd/')).toMatchObject({
      size: 0,
      etag: 'd41d8cd98f00b204e9800998ecf8427e',
    })
    const link = await made.namespace.lookup('box', 'd/l')
    expect(link.body).toMatchObject({ kind: 'inline', bytes: Buffer.from('../é') })
    // C29: never the form of an MD5.
    expect(link.etag).toMatch(/^[0-9a-f]{32}-1$/)
    expect(await made.namespace.files.linkTarget(link.inode)).toBe(name('../é'))
  })

  test('names have their bounds', async () => {
    const made = await begin()
    for (const bad of ['', '.', '..', 'a/b', 'a\0', '\xff']) {
      await expect(
        makeFile(made, made.root, 'x').then(() =>
          made.namespace.files.makeFile(made.root, bad as ByteString, { ...MADE, kind: 'file' }),
        ),
      ).rejects.toMatchObject(code('InvalidKey'))
      await made.namespace.files.removeFile(made.root, name('x'), { keep: false, owner: OWNER })
    }
    await expect(makeFile(made, made.root, 'f'.repeat(256))).rejects.toMatchObject(code('KeyTooLong'))
    await makeFile(made, made.root, 'f'.repeat(255))
  })

  test('C26: renames and links stay in their bucket, and out of themselves', async () => {
    const made = await begin()
    await made.bucket('other')
    const other = (await made.namespace.files.findFile(0, name('other'))).inode
    const inode = await makeDirectory(made, made.root, 'a')
    const below = await makeDirectory(made, inode, 'b')
    const file = await makeFile(made, made.root, 'f')
    const rename = (parent: InodeId, text: string, to: InodeId): Promise<unknown> =>
      made.namespace.files.renameFile(
        { parent, name: name(text) },
        { parent: to, name: name('new') },
        { mode: 'replace', keep: () => false },
      )
    await expect(rename(made.root, 'f', other)).rejects.toMatchObject(code('CrossBucket'))
    await expect(rename(0, 'box', 0)).rejects.toMatchObject(code('CrossBucket'))
    await expect(rename(made.root, 'a', below)).rejects.toMatchObject(code('InvalidArgument'))
    await expect(made.namespace.files.linkFile(file, other, name('x'))).rejects.toMatchObject(code('CrossBucket'))
    await expect(made.namespace.files.linkFile(inode, made.root, name('x'))).rejects.toMatchObject(code('IsADirectory'))
  })

  test('buckets are the directories of the root', async () => {
    const made = await begin()
    await made.namespace.files.makeDirectory(0, name('new-one'), MADE)
    expect(await names(made, 0, 1)).toEqual(['box', 'new-one'])
    expect(await made.namespace.files.findFile(0, name('new-one'))).toMatchObject({ mode: 0o600, uid: 1 })
    expect(await made.namespace.files.fileNode(0)).toMatchObject({ kind: 'directory', mode: 0o750 })
    await expect(made.namespace.files.makeDirectory(0, name('box'), MADE)).rejects.toMatchObject(code('FileExists'))
    await makeFile(made, made.root, 'f')
    await expect(made.namespace.files.removeDirectory(0, name('box'))).rejects.toMatchObject(code('DirectoryNotEmpty'))
    await made.namespace.files.removeDirectory(0, name('new-one'))
    await expect(made.namespace.files.findFile(0, name('new-one'))).rejects.toMatchObject(code('NoSuchKey'))
  })

  test('C28: links say the same, 64 of them, also when S3 overwrites and deletes some', async () => {
    const made = await begin()
    const inode = await makeFile(made, made.root, 'f0')
    for (let i = 1; i < 64; i++) await made.namespace.files.linkFile(inode, made.root, name(`f${i}`))
    await expect(made.namespace.files.linkFile(inode, made.root, name('more'))).rejects.toMatchObject(
      code('TooManyLinks'),
    )
    await made.namespace.files.changeFile(inode, { modified: { seconds: 5, nanoseconds: 7_000_001 } })
    for (const key of ['f0', 'f63'])
      expect(await made.namespace.lookup('box', key)).toMatchObject({ inode, mtimeMs: 5007 })
    await made.put('box', 'f0')
    await made.remove('box', 'f1')
    expect(await made.namespace.files.fileNode(inode)).toMatchObject({ links: 62 })
    expect(await made.namespace.files.keyOf(inode)).toEqual({ bucket: 'box', key: 'f10' })
    expect((await made.namespace.files.findFile(made.root, name('f0'))).links).toBe(1)
  })

  test('C8: times of a directory are those of its last change, or what they are set to', async () => {
    const made = await begin()
    const inode = await makeDirectory(made, made.root, 'd')
    made.clock.ms += 5000
    await makeFile(made, inode, 'f')
    const touched = Math.floor(made.clock.ms / 1000)
    expect((await made.namespace.files.fileNode(inode)).modified.seconds).toBe(touched)
    expect((await made.namespace.files.findFile(made.root, name('d'))).changed.seconds).toBe(touched)
    const past = { seconds: -3, nanoseconds: 1 }
    await made.namespace.files.changeFile(inode, { modified: past, mode: 0o1777 })
    expect(await made.namespace.files.fileNode(inode)).toMatchObject({ modified: past, mode: 0o1777 })
    made.clock.ms += 5000
    await made.namespace.files.removeFile(inode, name('f'), { keep: false, owner: OWNER })
    expect((await made.namespace.files.fileNode(inode)).modified.seconds).toBe(touched + 5)
  })

  test('set-uid and set-gid go when who changes it may not keep them', async () => {
    const made = await begin()
    const inode = await makeFile(made, made.root, 'f')
    const mode = async (given: number): Promise<number> => {
      await made.namespace.files.changeFile(inode, { mode: given })
      return (await made.namespace.files.changeFile(inode, { uid: 3, dropPrivileges: true })).value.mode
    }
    expect(await mode(0o6755)).toBe(0o755)
    expect(await mode(0o6745)).toBe(0o2745)
  })

  test('extended attributes are bounded, and go with what they belong to', async () => {
    const made = await begin()
    const { files } = made.namespace
    const inode = await makeDirectory(made, made.root, 'd')
    const a = name('user.a')
    await files.setFileAttribute(inode, a, Buffer.alloc(65_536), 'create')
    await expect(files.setFileAttribute(inode, a, Buffer.alloc(1), 'create')).rejects.toMatchObject(code('FileExists'))
    await expect(files.setFileAttribute(inode, name('user.b'), Buffer.alloc(1), 'replace')).rejects.toMatchObject(
      code('NoSuchAttribute'),
    )
    await expect(files.setFileAttribute(inode, a, Buffer.alloc(65_537), 'set')).rejects.toMatchObject(
      code('EntityTooLarge'),
    )
    for (const more of ['b', 'c']) await files.setFileAttribute(inode, name(more), Buffer.alloc(65_536), 'set')
    await expect(files.setFileAttribute(inode, name('d'), Buffer.alloc(65_536), 'set')).rejects.toMatchObject(
      code('EntityTooLarge'),
    )
    expect(await files.fileAttributeNames(inode)).toEqual(['b', 'c', 'user.a'])
    await files.removeDirectory(made.root, name('d'))
    await made.reclaim()
    await expect(files.fileAttribute(inode, a)).rejects.toMatchObject(code('StaleFile'))
  })

  test('in a bucket that keeps versions, replacing by rename is a new version', async () => {
    const made = await begin('enabled')
    await made.put('box', 'f', { bytes: 'old' })
    await makeFile(made, made.root, 'tmp')
    await made.namespace.files.renameFile(
      { parent: made.root, name: name('tmp') },
      { parent: made.root, name: name('f') },
      { mode: 'replace', keep: () => false },
    )
    const page = await made.namespace.listVersions({
      bucket: 'box',
      prefix: '',
      delimiter: '',
      keyMarker: '',
      versionIdMarker: undefined,
      limit: 10,
    })
    expect(page.versions.map(({ key }) => key)).toEqual(['f', 'f'])
    expect((await made.namespace.lookup('box', 'f')).size).toBe(0)
  })
})

test('caches are told what a commit changed, whoever made it', async () => {
  const made = await begin()
  const told: FileChange[] = []
  const end = made.namespace.files.onFileChanges((changes) => told.push(...changes))
  await made.put('box', 'a/b')
  const a = (await made.namespace.files.findFile(made.root, name('a'))).inode
  expect(told).toContainEqual({ kind: 'entry', parent: made.root, name: 'a' })
  expect(told).toContainEqual({ kind: 'entry', parent: a, name: 'b' })
  told.length = 0
  await made.namespace.files.changeFile(a, { mode: 0o700 })
  expect(told).toEqual([{ kind: 'node', inode: a }])
  told.length = 0
  const b = (await made.namespace.files.findFile(a, name('b'))).inode
  const request = {
    inode: b,
    edits: [],
    inline: Buffer.from('new'),
    size: 3,
    modified: undefined,
    ack: 'journal',
  } as const
  await made.namespace.files.publishFile(request)
  // The name leads where it led.
  expect(told).toEqual([{ kind: 'node', inode: b }])
  end()
  await made.put('box', 'c')
  expect(told).toHaveLength(1)
})

test('in a directory with set-gid all belongs to its group, and directories hand that on', async () => {
  const made = await begin()
  const { files } = made.namespace
  const shared = await makeDirectory(made, made.root, 'shared')
  await files.changeFile(shared, { mode: 0o2775, gid: 77 })
  const file = await makeFile(made, shared, 'file')
  expect(await files.fileNode(file)).toMatchObject({ mode: 0o600, uid: 1, gid: 77 })
  const below = await makeDirectory(made, shared, 'below')
  expect(await files.fileNode(below)).toMatchObject({ mode: 0o2600, uid: 1, gid: 77 })
  const told: unknown[] = []
  const willBe = (inode: InodeId, bucket: string): void => void told.push([inode, bucket])
  const { value } = await files.makeFile(below, name('deep'), { ...MADE, kind: 'file', willBe })
  expect(value.gid).toBe(77)
  expect(told.at(-1)).toEqual([value.inode, 'box'])
})

test('the namespace provides what the store asks for', async () => {
  const made = await begin()
  const port: MetadataFiles = made.namespace.files
  expect(typeof port.publishFile).toBe('function')
})
