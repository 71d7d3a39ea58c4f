/** A node over real files, filled with one of everything, whose names can be shipped to its remote store; and what is in it, to compare. */
import { createHash, randomBytes, randomFillSync } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '../../src/common/clock.ts'
import { NO_CONDITIONS } from '../../src/common/conditions.ts'
import type { ByteString } from '../../src/common/ids.ts'
import type { ObjectAttributes, ObjectVersion } from '../../src/common/model.ts'
import { startEngine, type Engine } from '../../src/engine.ts'
import { LmdbBackend } from '../../src/meta/lmdb/lmdb-backend.ts'
import { createLmdbStore } from '../../src/meta/lmdb/lmdb-store.ts'
import { createHashWorkers } from '../../src/persist/hashing/hash-workers.ts'
import { createThreadDevice } from '../../src/persist/journal/device-threads.ts'
import {
  encodeBaseEnd,
  encodeNamesObject,
  encodeRows,
  namesObjectCrc,
  type NamesHead,
} from '../../src/persist/names/format.ts'
import { namesObjectName, type NamesObjectName } from '../../src/persist/names/object-names.ts'
import type { NameRecord, NameRow } from '../../src/persist/names/ports.ts'
import { encodeRecords } from '../../src/persist/names/record-format.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import type { RemoteStore } from '../../src/persist/remote/ports.ts'
import { TINY_LIMITS } from '../sim/life.ts'

export const PLAIN: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
export const LINEAGE = 'ab'.repeat(16)
const BASE_PAGE_BYTES = 16 * 1024

/** Segments go to the store's directory as they would to any remote store. */
export async function startNode(places: { readonly data: string; readonly store: string }): Promise<Engine> {
  await mkdir(places.store, { recursive: true })
  return startEngine({
    clock: systemClock,
    limits: TINY_LIMITS,
    fileSystem: nodeFileSystem,
    places: { journal: join(places.data, 'journal'), store: places.store },
    slabBytes: 64 * TINY_LIMITS.blockBytes,
    defaultAck: 'journal',
    diskReserveBytes: 0,
    createDevice: ({ buffer, blockBytes, pageBytes }) => createThreadDevice({ slab: buffer, blockBytes, pageBytes }),
    createHashing: (slab) => createHashWorkers({ slab, workers: 1, queueSlicesMax: 16 }),
    createOrderedStore: (beforeCommit) => createLmdbStore({ directory: join(places.data, 'meta'), beforeCommit }),
    fillRandom: randomFillSync,
    random: Math.random,
    onEvent: () => undefined,
    poison: true,
    backgroundJobs: false,
  })
}

export interface PutOptions {
  readonly attributes?: ObjectAttributes
  readonly ttlMs?: number
}

export async function put(
  engine: Engine,
  at: { readonly bucket: string; readonly key: string },
  bytes: Uint8Array,
  { attributes = PLAIN, ttlMs }: PutOptions = {},
): Promise<void> {
  const isSmall = bytes.length <= TINY_LIMITS.inlineBytesMax
  const md5 = createHash('md5').update(bytes).digest('hex')
  const whole = { kind: 'bytes', bytes, digests: { md5, checksums: {} } } as const
  const body = isSmall ? whole : await streamed(engine, at, bytes)
  const request = {
    ...at,
    body,
    attributes,
    checksum: undefined,
    owner: 'root',
    conditions: NO_CONDITIONS,
    ack: undefined,
  }
  await engine.store.objects.put({ ...request, ...(ttlMs === undefined ? {} : { ttlMs }) })
}

async function streamed(
  { store }: Engine,
  label: { readonly bucket: string; readonly key: string },
  bytes: Uint8Array,
): Promise<{ kind: 'streamed'; body: number }> {
  const body = await store.bodies.open({ expectedLength: bytes.length, algorithms: [], sha256: false, label })
  for (let at = 0; at < bytes.length; at += 200) await store.bodies.append(body, bytes.subarray(at, at + 200))
  await store.bodies.finish(body)
  return { kind: 'streamed', body }
}

export async function beginUpload(engine: Engine, at: { bucket: string; key: string }): Promise<string> {
  const none = { checksumAlgorithm: undefined, checksumType: undefined }
  const { uploadId } = await engine.store.uploads.create({ ...at, owner: 'root', attributes: PLAIN, ...none })
  return uploadId
}

export async function putPart(
  engine: Engine,
  at: { readonly bucket: string; readonly key: string; readonly uploadId: string },
  partNumber: number,
  bytes: Uint8Array,
): Promise<{ partNumber: number; etag: string; checksum: undefined }> {
  const body = await streamed(engine, at, bytes)
  const { etag } = await engine.store.uploads.putPart({ ...at, partNumber, body, checksum: undefined, ack: undefined })
  return { partNumber, etag, checksum: undefined }
}

/** One of everything that a namespace can hold. */
export async function fillWithAllKinds(engine: Engine): Promise<void> {
  const { store } = engine
  for (const name of ['plain', 'kept', 'empty']) await store.buckets.create({ name, owner: 'root', region: 'r' })
  await store.buckets.setVersioning('kept', 'enabled')
  for (const size of [0, 1, 32, 33, 700, 1024, 1025, 9000]) {
    await put(engine, { bucket: 'plain', key: `sizes/${size}` }, randomBytes(size))
  }
  await put(engine, { bucket: 'plain', key: 'gone' }, randomBytes(500))
  await store.objects.delete({ bucket: 'plain', key: 'gone' }, NO_CONDITIONS)
  const attributes = {
    headers: { contentType: 'text/plain', cacheControl: 'no-store' },
    userMetadata: { colour: 'blue', Bücher: '1' },
    tags: { a: 'b' },
    storageClass: 'GLACIER',
  }
  await put(engine, { bucket: 'plain', key: 'told/ä' }, randomBytes(300), { attributes })
  await store.objects.setTags({ bucket: 'plain', key: 'told/ä' }, { a: 'c', d: 'e' })
  await put(engine, { bucket: 'plain', key: 'soon' }, randomBytes(300), { ttlMs: 3_600_000 })
  await fillVersions(engine)
  await fillUploads(engine)
  await fillFiles(engine)
}

async function fillVersions(engine: Engine): Promise<void> {
  const { store } = engine
  for (const size of [10, 400, 2000]) await put(engine, { bucket: 'kept', key: 'often' }, randomBytes(size))
  await put(engine, { bucket: 'kept', key: 'a/b/deleted' }, randomBytes(400))
  await store.objects.delete({ bucket: 'kept', key: 'a/b/deleted' }, NO_CONDITIONS)
  await store.buckets.setVersioning('kept', 'suspended')
  await put(engine, { bucket: 'kept', key: 'often' }, randomBytes(450))
  await store.buckets.setVersioning('kept', 'enabled')
  await put(engine, { bucket: 'kept', key: 'often' }, randomBytes(460))
}

async function fillUploads(engine: Engine): Promise<void> {
  const { store } = engine
  const at = { bucket: 'plain', key: 'big/parts' }
  const uploadId = await beginUpload(engine, at)
  const parts = [
    await putPart(engine, { ...at, uploadId }, 1, randomBytes(1500)),
    await putPart(engine, { ...at, uploadId }, 2, randomBytes(90)),
    await putPart(engine, { ...at, uploadId }, 5, randomBytes(3000)),
  ]
  const completion = { conditions: NO_CONDITIONS, checksum: undefined, checksumType: undefined, objectSize: undefined }
  await store.uploads.complete({ ...at, uploadId, parts, ...completion, ack: undefined })
  await store.objects.copy({
    source: { ...at },
    sourceConditions: {},
    bucket: 'kept',
    key: 'copy',
    conditions: NO_CONDITIONS,
    owner: 'root',
    attributes: undefined,
    tags: undefined,
    ack: undefined,
  })
  const open = await beginUpload(engine, { bucket: 'plain', key: 'open' })
  await putPart(engine, { bucket: 'plain', key: 'open', uploadId: open }, 3, randomBytes(800))
}

async function fillFiles(engine: Engine): Promise<void> {
  const { files } = engine.store
  const made = { mode: 0o640, uid: 5, gid: 6 }
  const { inode: root } = await files.find(0, 'plain' as ByteString)
  const { inode: directory } = await files.makeDirectory(root, 'tree' as ByteString, made)
  const { handle, node } = await files.create(directory, 'file' as ByteString, made, { write: true })
  await files.write(handle, 0, randomBytes(900), false)
  await files.write(handle, 5000, randomBytes(2000), false)
  await files.sync(handle)
  await files.write(handle, 5100, randomBytes(50), false)
  await files.allocate(handle, { offset: 6000, length: 300 }, { kind: 'punch', keepSize: true })
  await files.sync(handle)
  await files.release(handle)
  await files.setAttribute(node.inode, 'user.note' as ByteString, Buffer.from('kept'), 'set')
  await files.link(node.inode, directory, 'other-name' as ByteString)
  await files.link(node.inode, root, 'third-name' as ByteString)
  await files.makeFile(directory, 'link' as ByteString, {
    ...made,
    kind: 'symlink',
    target: '../sizes/33' as ByteString,
  })
  await files.makeFile(directory, 'pipe' as ByteString, { ...made, kind: 'fifo' })
  await files.rename(
    { parent: root, name: 'sizes' as ByteString },
    { parent: directory, name: 'moved' as ByteString },
    'replace',
  )
}

/** Everything durable, sealed and in the remote store. */
export async function settle(engine: Engine): Promise<void> {
  await engine.orderedStore.flush()
  await engine.drain()
}

/** A base of all rows and an empty delta that makes it a state. The node must be quiet. */
export async function shipNames(engine: Engine, remote: RemoteStore, lineage = LINEAGE): Promise<void> {
  const { names, durableRevision } = engine.namespace
  const revision = durableRevision()
  const random = randomBytes(8).toString('hex')
  const head = { lineage, capturedMs: Date.now(), random, from: revision, through: revision }
  const parts: { crc: number; bytes: number }[] = []
  for (let after: ByteString | undefined; ;) {
    const page = await names.basePage(after, BASE_PAGE_BYTES)
    const part = { kind: 'base-part', begin: revision, random, part: parts.length } as const
    const encoded = await putNames(
      remote,
      part,
      { ...head, kind: 'base-part', part: parts.length, parts: 0, rows: page.rows.length },
      encodeRows(page.rows),
    )
    parts.push({ crc: namesObjectCrc(encoded), bytes: encoded.length })
    after = page.next
    if (after === undefined) break
  }
  const whole = { kind: 'base-whole', begin: revision, end: revision, random, parts: parts.length } as const
  await putNames(
    remote,
    whole,
    { ...head, kind: 'base-whole', part: 0, parts: parts.length, rows: 0 },
    encodeBaseEnd(parts),
  )
  await shipDelta(remote, { after: revision, through: revision, rows: [] }, lineage)
}

export async function shipDelta(
  remote: RemoteStore,
  { after, through, rows }: { readonly after: number; readonly through: number; readonly rows: readonly NameRow[] },
  lineage = LINEAGE,
): Promise<string> {
  const random = randomBytes(8).toString('hex')
  const name = { kind: 'delta', after, through, random, part: 0, parts: 1 } as const
  const head = {
    kind: 'delta',
    lineage,
    capturedMs: Date.now(),
    random,
    from: after,
    through,
    part: 0,
    parts: 1,
  } as const
  await putNames(remote, name, { ...head, rows: rows.length }, encodeRows(rows))
  return namesObjectName(lineage, name)
}

export async function shipRecords(
  remote: RemoteStore,
  records: readonly NameRecord[],
  lineage = LINEAGE,
): Promise<void> {
  const revisions = records.map(({ revision }) => revision)
  const [from, through] = [Math.min(...revisions), Math.max(...revisions)]
  const random = randomBytes(8).toString('hex')
  const head = { kind: 'records', lineage, capturedMs: Date.now(), random, from, through, part: 0, parts: 0 } as const
  await putNames(
    remote,
    { kind: 'records', from, through, random },
    { ...head, rows: records.length },
    encodeRecords(records),
  )
}

async function putNames(
  remote: RemoteStore,
  name: NamesObjectName,
  head: NamesHead,
  payload: Uint8Array,
): Promise<Buffer> {
  const encoded = await encodeNamesObject(head, payload)
  await remote.put(namesObjectName(head.lineage, name), encoded)
  return encoded
}

/** Every row of a metadata file that no process has open, by table. */
export async function rowsOf(data: string): Promise<Map<string, string>> {
  const backend = new LmdbBackend({ directory: join(data, 'meta') })
  await backend.open()
  try {
    const range = { start: '\0' as ByteString, end: '\xff\xff' as ByteString }
    const rows = backend.scan(range, 1_000_000, false)
    return new Map(rows.map(({ key, value }) => [key as string, Buffer.from(value).toString('latin1')]))
  } finally {
    await backend.close()
  }
}

/** Every version of every object with its bytes, and every delete marker, as the store gives them out. */
export async function contentsOf(engine: Engine): Promise<Map<string, { version: unknown; bytes: string }>> {
  const found = new Map<string, { version: unknown; bytes: string }>()
  const buckets = await engine.namespace.listBuckets({ prefix: '', after: '', limit: 1000 })
  for (const { name: bucket } of buckets) {
    const page = await engine.store.objects.listVersions({
      bucket,
      prefix: '',
      delimiter: '',
      keyMarker: '',
      versionIdMarker: undefined,
      limit: 1000,
    })
    for (const { key, versionId, isDeleteMarker } of page.versions) {
      const name = `${bucket} ${key} ${versionId ?? ''}`
      if (isDeleteMarker) found.set(name, { version: 'marker', bytes: '' })
      else {
        const address = versionId === undefined ? { bucket, key } : { bucket, key, versionId }
        const { version, bytes } = await read(engine, address)
        found.set(name, { version: { ...version, body: version.body.kind }, bytes: bytes.toString('hex') })
      }
    }
  }
  return found
}

export async function read(
  { store }: Engine,
  address: { readonly bucket: string; readonly key: string; readonly versionId?: string },
): Promise<{ version: ObjectVersion; bytes: Buffer }> {
  const { objects, reading } = store
  const { reader, version } = await objects.open(address, NO_CONDITIONS)
  try {
    if (version.body.kind === 'inline') return { version, bytes: Buffer.from(version.body.bytes) }
    const bytes = Buffer.alloc(version.size)
    for (let at = 0; at < version.size;) {
      const slice = await reading.read(reader, at, version.size - at)
      bytes.set(reading.view(slice), at)
      if (slice.lease !== undefined) reading.release(slice.lease)
      at += slice.length
    }
    return { version, bytes }
  } finally {
    reading.close(reader)
  }
}
