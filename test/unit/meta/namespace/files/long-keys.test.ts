/** What the mount makes deep down, where keys are longer than S3 and KV make them: listed, read, copied and deleted all the same. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { utf8Bytes, type ByteString, type InodeId } from '../../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../../src/common/limits.ts'
import type { ListRequest } from '../../../../../src/common/model.ts'
import type { ScanRequest } from '../../../../../src/meta/namespace/values/scan.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { OWNER, PLAIN, fixture, publishRequest, type Fixture } from '../fixture.ts'

const { addressedKeyBytesMax, keyBytesMax } = DEFAULT_LIMITS
const MADE = { mode: 0o600, uid: 1, gid: 2, owner: OWNER }

let made: Fixture

beforeEach(async () => {
  made = await fixture()
})

afterEach(async () => {
  await checkNamespace(made.store)
  await made.stop()
})

/** Makes directories of such names, one in the other. Returns the path and the inode of the deepest. */
async function descend(bucket: string, names: readonly string[]): Promise<{ path: string; inode: InodeId }> {
  let { inode } = await made.namespace.files.findFile(0, bucket as ByteString)
  for (const name of names) {
    inode = (await made.namespace.files.makeDirectory(inode, utf8Bytes(name), MADE)).value.inode
  }
  return { path: names.map((name) => `${name}/`).join(''), inode }
}

async function makeFiles(parent: InodeId, names: readonly string[]): Promise<void> {
  for (const name of names) await made.namespace.files.makeFile(parent, utf8Bytes(name), { ...MADE, kind: 'file' })
}

/** So many names of 250 bytes. */
function chain(depth: number): string[] {
  return Array.from({ length: depth }, (_, level) => `ü${String(level).padStart(248, 'd')}`)
}

async function listAll(request: Partial<ListRequest>): Promise<{ keys: string[]; pages: number }> {
  const keys: string[] = []
  for (let after = '', pages = 1; ; pages++) {
    const asked = { bucket: 'box', prefix: '', delimiter: '', limit: 2, ...request, after }
    const page = await made.namespace.list(asked)
    keys.push(...page.objects.map(({ key }) => key), ...page.commonPrefixes)
    if (!page.truncated) return { keys, pages }
    after = page.next ?? ''
  }
}

async function scanAll(request: Partial<ScanRequest>): Promise<string[]> {
  const keys: string[] = []
  const base = { bucket: 'box', prefix: '', start: '', end: '', reverse: false, limit: 2, values: false }
  for (let after: string | undefined; ;) {
    const page = await made.namespace.scan({ ...base, valueBytesMax: 0, ...request, after })
    keys.push(...page.keys.map(({ key }) => key))
    if (page.next === undefined) return keys
    after = page.next
  }
}

describe('a tree of keys of 16 KiB', () => {
  const names = chain(66)
  const files = ['a', 'b', 'c', 'e']
  let path: string
  let keys: string[]

  beforeEach(async () => {
    await made.bucket('box')
    const deepest = await descend('box', names)
    path = deepest.path
    await makeFiles(deepest.inode, files)
    await made.put('box', 'z')
    const markers = names.map((_, level) => `${names.slice(0, level + 1).join('/')}/`)
    keys = ['z', ...markers, ...files.map((file) => path + file)]
    expect(Buffer.byteLength(path)).toBeGreaterThan(16 * 1024)
  })

  it('is listed page by page, under prefixes of any length too', async () => {
    expect((await listAll({})).keys).toEqual(keys)
    expect((await listAll({ prefix: path, limit: 1 })).keys).toEqual([path, ...files.map((file) => path + file)])
    expect((await listAll({ prefix: `${path}c` })).keys).toEqual([`${path}c`])
    expect((await listAll({ prefix: `${path}x/` })).keys).toEqual([])
    expect((await listAll({ delimiter: '/' })).keys.toSorted()).toEqual(['z', `${names[0]}/`].toSorted())
    const shallower = names.slice(0, -1).join('/')
    expect((await listAll({ prefix: `${shallower}/`, delimiter: '/' })).keys).toEqual([`${shallower}/`, path])
  })

  it('is scanned both ways, from and to keys of any length', async () => {
    expect(await scanAll({})).toEqual(keys)
    expect(await scanAll({ reverse: true })).toEqual(keys.toReversed())
    const some = { start: `${path}b`, end: `${path}e` }
    expect(await scanAll(some)).toEqual([`${path}b`, `${path}c`])
    expect(await scanAll({ ...some, reverse: true })).toEqual([`${path}c`, `${path}b`])
    expect(await scanAll({ start: `${path}${'b'.repeat(3_000)}` })).toEqual([`${path}c`, `${path}e`])
  })

  it('a page has no more keys than bytes allow', async () => {
    const directory = await made.namespace.files.findFile(0, 'box' as ByteString)
    let inode = directory.inode
    for (const name of names) inode = (await made.namespace.files.findFile(inode, utf8Bytes(name))).inode
    await makeFiles(
      inode,
      Array.from({ length: 100 }, (_, index) => `f${String(index).padStart(3, '0')}`),
    )
    const { keys: listed, pages } = await listAll({ prefix: path, limit: 1000 })
    expect(listed).toHaveLength(105)
    expect(pages).toBe(2)
    expect(await scanAll({ prefix: path, limit: 1000 })).toEqual(listed)
  })

  it('what is longer than a request can name is said to be', async () => {
    const key = `${path}a`
    await expect(made.namespace.lookup('box', key)).rejects.toMatchObject({ code: 'KeyTooLong' })
    await expect(made.remove('box', key)).rejects.toMatchObject({ code: 'KeyTooLong' })
    await expect(made.namespace.presence('box', [key], false)).rejects.toMatchObject({ code: 'KeyTooLong' })
  })
})

describe.each([undefined, 'enabled', 'suspended'] as const)('a key of 8 KiB, versioning %s', (versioning) => {
  let key: string

  beforeEach(async () => {
    await made.bucket('box', versioning)
    const { path, inode } = await descend('box', chain(32))
    const name = 'f'.repeat(addressedKeyBytesMax - Buffer.byteLength(path))
    await makeFiles(inode, [name])
    key = path + name
    expect(Buffer.byteLength(key)).toBe(addressedKeyBytesMax)
  })

  it('is read, tagged, copied and deleted', async () => {
    expect((await made.namespace.lookup('box', key)).key).toBe(key)
    expect(await made.namespace.presence('box', [key, `${key.slice(0, -1)}x`], false)).toMatchObject({
      present: [true, false],
    })
    await made.namespace.setTags({ bucket: 'box', key }, { a: 'b' })
    const copy = { attributes: undefined, tags: undefined, owner: OWNER, conditions: {}, ack: 'journal' } as const
    const source = { source: { bucket: 'box', key }, sourceConditions: {}, bucket: 'box' } as const
    const copied = await made.namespace.copy({ ...copy, ...source, key: 'short' })
    expect(copied.value.target.attributes.tags).toEqual({ a: 'b' })
    await expect(made.namespace.copy({ ...copy, ...source, key: `${key.slice(0, -1)}x` })).rejects.toMatchObject({
      code: 'KeyTooLong',
    })
    expect((await made.remove('box', key)).value.existed).toBe(true)
    await expect(made.namespace.lookup('box', key)).rejects.toMatchObject({ code: 'NoSuchKey' })
  })

  it('is not made', async () => {
    const absent = `${key.slice(0, -1)}x`
    const code = { code: 'KeyTooLong' }
    await expect(made.namespace.publish(publishRequest('box', key))).rejects.toMatchObject(code)
    const upload = { bucket: 'box', key, owner: OWNER, attributes: PLAIN }
    const checksums = { checksumAlgorithm: undefined, checksumType: undefined }
    await expect(made.namespace.createUpload({ ...upload, ...checksums })).rejects.toMatchObject(code)
    // A delete marker of a key that was never there would make it.
    if (versioning) await expect(made.remove('box', absent)).rejects.toMatchObject(code)
    else expect((await made.remove('box', absent)).value.existed).toBe(false)
    await expect(made.namespace.lookup('box', absent)).rejects.toMatchObject({ code: 'NoSuchKey' })
  })

  it('is read and deleted by a transaction, which makes none', async () => {
    const transact = (then: Parameters<typeof made.namespace.transactValues>[0]['then']): Promise<unknown> =>
      made.namespace
        .transactValues({
          bucket: 'box',
          compares: [{ target: 'exists', key, operand: true }],
          then,
          else: [],
          known: [],
          owner: OWNER,
          ack: 'journal',
        })
        .then(({ value }) => value)
    const counter = { op: 'increment', key, delta: 1n, ttlMs: undefined } as const
    await expect(transact([counter])).rejects.toMatchObject({ code: 'KeyTooLong' })
    expect(
      await transact([
        { op: 'get', key },
        { op: 'delete', key },
      ]),
    ).toMatchObject({
      succeeded: true,
      outcomes: [{ version: { key } }, { existed: true }],
    })
  })

  it('has versions, which are listed and deleted', async () => {
    if (!versioning) return
    await made.remove('box', key)
    const request = { bucket: 'box', prefix: key, delimiter: '', limit: 1 }
    const first = await made.namespace.listVersions({ ...request, keyMarker: '', versionIdMarker: undefined })
    expect(first.versions).toMatchObject([{ key, isDeleteMarker: true, isLatest: true }])
    expect(first.truncated).toBe(versioning === 'enabled')
    await made.remove('box', key, first.versions[0]?.versionId)
    if (versioning === 'enabled') expect((await made.namespace.lookup('box', key)).key).toBe(key)
  })
})

it('the mount makes and moves nothing deeper than a limit, to the byte', async () => {
  await made.stop()
  made = await fixture({}, { limits: { ...DEFAULT_LIMITS, fileKeyBytesMax: 100 } })
  await made.bucket('box')
  const { files } = made.namespace
  const root = (await files.findFile(0, 'box' as ByteString)).inode
  const { path, inode: parent } = await descend('box', ['d'.repeat(40), 'ü'.repeat(20)])
  expect(Buffer.byteLength(path)).toBe(82)
  // A name, and the slash that would follow if it were a directory's.
  const [fits, tooLong] = [utf8Bytes(`${'ü'.repeat(8)}f`), utf8Bytes('ü'.repeat(9))]
  const { inode } = (await files.makeFile(root, 'file' as ByteString, { ...MADE, kind: 'file' })).value
  const [file, directory] = [
    { parent: root, name: 'file' as ByteString },
    { parent: root, name: 'directory' as ByteString },
  ]
  await files.makeDirectory(root, directory.name, MADE)
  const moving = { mode: 'replace', keep: () => false } as const
  const attempts = {
    makeFile: (name: ByteString) => files.makeFile(parent, name, { ...MADE, kind: 'file' }),
    makeDirectory: (name: ByteString) => files.makeDirectory(parent, name, MADE),
    linkFile: (name: ByteString) => files.linkFile(inode, parent, name),
    renameFile: (name: ByteString) => files.renameFile(file, { parent, name }, moving),
    'renameFile of a directory': (name: ByteString) => files.renameFile(directory, { parent, name }, moving),
  }
  for (const [what, attempt] of Object.entries(attempts)) {
    await expect(attempt(tooLong), what).rejects.toMatchObject({ code: 'KeyTooLong' })
  }
  expect((await listAll({ prefix: path })).keys).toEqual([path])
  for (const [what, attempt] of Object.entries(attempts)) {
    await attempt(fits)
    const found = await files.findFile(parent, fits)
    expect(found.kind, what).toBe(what.includes('irectory') ? 'directory' : 'file')
    if (found.kind === 'directory') await files.removeDirectory(parent, fits)
    else await files.removeFile(parent, fits, { owner: OWNER, keep: false })
  }
})

it('no component is longer than a row allows, whatever the key', async () => {
  await made.bucket('box')
  const long = `a/${'b'.repeat(keyBytesMax)}/c`
  await expect(made.namespace.lookup('box', long)).rejects.toMatchObject({ code: 'KeyTooLong' })
  expect((await listAll({ prefix: long })).keys).toEqual([])
  expect((await listAll({ prefix: `a/${'b'.repeat(5_000)}/` })).keys).toEqual([])
  await made.put('box', 'b')
  const page = await made.namespace.list({ bucket: 'box', prefix: '', delimiter: '', limit: 9, after: long.repeat(9) })
  expect(page.objects.map(({ key }) => key)).toEqual(['b'])
})

it('a renamed directory of long keys is one event, with both names whole (C3)', async () => {
  await made.bucket('box')
  const names = chain(40)
  const { path, inode } = await descend('box', names)
  await makeFiles(inode, ['f'])
  const root = (await made.namespace.files.findFile(0, 'box' as ByteString)).inode
  const from = { parent: root, name: utf8Bytes(names[0] ?? '') }
  const revision = made.namespace.revision()
  await made.namespace.files.renameFile(
    from,
    { parent: root, name: 'short' as ByteString },
    { mode: 'replace', keep: () => false },
  )
  await made.namespace.flush()
  const stopping = new AbortController()
  const seen: unknown[] = []
  for await (const { events } of made.namespace.watch(revision + 1, stopping.signal)) {
    seen.push(...events)
    if (events.length > 0) break
  }
  stopping.abort()
  expect(seen).toMatchObject([{ kind: 'renamed', from: `${names[0]}/`, to: 'short/' }])
  const moved = `short/${path.slice((names[0]?.length ?? 0) + 1)}f`
  expect((await listAll({ limit: 1000 })).keys.at(-1)).toBe(moved)
})
