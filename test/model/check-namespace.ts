/**
 * The invariants of the metadata schema, checked over every row of an ordered store. The model tests and the crash simulation
 * run it on whatever state they have reached; it throws an Error that names what is wrong.
 */
import type { ContentId, InodeId, SegmentId } from '../../src/common/ids.ts'
import type { OrderedStore, ReadView, Row } from '../../src/meta/ports.ts'
import { isUsed } from '../../src/meta/namespace/complete-upload.ts'
import { PIECES_PER_ROW } from '../../src/meta/namespace/composites.ts'
import {
  BUCKETS,
  CONTENTS,
  ENTRIES,
  ENTRY_NAME_AT,
  EXPIRIES,
  INODES,
  PARTS,
  PIECES,
  RECLAIM,
  RECLAIM_ID_AT,
  SEGMENT_STATE_ROWS,
  UPLOADS,
  UPLOAD_KEY_AT,
  VERSIONS,
  bytesHex,
  expiryKey,
  integerAt,
  orderedAt,
  parseVersionKey,
  prefixRange,
  reclaimKindOf,
  segmentLiveKey,
  usageKey,
  versionSuffix,
} from '../../src/meta/namespace/keys.ts'
import {
  decodeContent,
  decodeDropped,
  decodePiece,
  decodePieceRow,
  type Content,
  type FileContent,
  type Piece,
} from '../../src/meta/namespace/records-contents.ts'
import {
  decodeBucket,
  decodeEntry,
  decodeInode,
  type DirectoryInode,
  type Inode,
  type ObjectInode,
  type VersionEntry,
} from '../../src/meta/namespace/records-objects.ts'
import { linksOf } from '../../src/meta/namespace/files/links.ts'
import { partNumberOf } from '../../src/meta/namespace/uploads.ts'
import { checkFiles, type EntryAt } from './check-files.ts'

const ROWS_MAX = 1_000_000

interface NamedVersions {
  readonly parent: InodeId
  readonly name: string
  current: VersionEntry | undefined
  readonly older: VersionEntry[]
  nullPointer: number | undefined
}

interface Tables {
  readonly inodes: ReadonlyMap<InodeId, Inode>
  readonly roots: ReadonlyMap<InodeId, { name: string; versioned: boolean }>
  readonly names: Map<string, NamedVersions>
  /** By inode: where its entry lies. */
  readonly directories: Map<InodeId, { parent: InodeId; name: string; hidden: boolean }>
  readonly contents: ReadonlyMap<ContentId, Content>
  readonly dropped: ReadonlyMap<ContentId, { content: Content; building: boolean }>
  /** By the id that their rows bear. */
  readonly pieces: Map<ContentId, Piece[]>
  /** By the id that the rows bear: the file's content that they are the pieces of, all of them or what was taken out. */
  readonly fileRows: Map<ContentId, FileContent>
  readonly parts: readonly Row[]
  readonly uploads: ReadonlySet<string>
  readonly finished: ReadonlyMap<string, Uint8Array>
  readonly deletedBuckets: ReadonlySet<number>
}

/** @returns how many rows of each kind there are, for tests that want to see that something was left or not */
export async function checkNamespace(
  store: OrderedStore,
  options: { node?: string; checkUsage?: boolean } = {},
): Promise<{ inodes: number; contents: number; dropped: number; parts: number; uploads: number; hidden: number }> {
  return store.read(async (view) => {
    const tables = await readTables(view)
    checkNames(tables)
    checkDirectories(tables)
    checkInodes(tables)
    await checkFiles(view, tables.inodes, objectEntries(tables))
    await checkExpiries(view, tables)
    checkContents(tables)
    await checkSegments(view, tables)
    if (options.checkUsage ?? true) await checkUsage(view, tables, options.node ?? 'local')
    return {
      inodes: tables.inodes.size,
      contents: tables.contents.size,
      dropped: tables.dropped.size,
      parts: tables.parts.length,
      uploads: tables.uploads.size,
      hidden: [...tables.directories.values()].filter((directory) => directory.hidden).length,
    }
  })
}

function demand(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`namespace invariant: ${what}`)
}

async function tableRows(view: ReadView, prefix: string): Promise<Row[]> {
  return view.scan(prefixRange(prefix), ROWS_MAX)
}

async function readTables(view: ReadView): Promise<Tables> {
  const buckets = (await tableRows(view, BUCKETS)).map((row) => decodeBucket(row.value))
  const reclaim = await tableRows(view, RECLAIM)
  const ofKind = (kind: string): Row[] => reclaim.filter((row) => reclaimKindOf(row.key) === kind)
  const tables: Tables = {
    inodes: new Map((await tableRows(view, INODES)).map((row) => [integerAt(row.key, 2), decodeInode(row.value)])),
    roots: new Map(buckets.map(({ root, name, versioning }) => [root, { name, versioned: versioning !== 'off' }])),
    names: new Map(),
    directories: new Map(),
    contents: new Map(
      (await tableRows(view, CONTENTS)).map((row) => [integerAt(row.key, 2), decodeContent(row.value)]),
    ),
    dropped: new Map(
      ofKind('content').map((row) => {
        const { content, builder } = decodeDropped(row.value)
        return [integerAt(row.key, RECLAIM_ID_AT), { content, building: builder !== undefined }]
      }),
    ),
    pieces: new Map(),
    fileRows: new Map(),
    parts: await tableRows(view, PARTS),
    uploads: new Set(
      (await tableRows(view, UPLOADS)).map((row) => bytesHex(row.key.slice(orderedAt(row.key, UPLOAD_KEY_AT).next))),
    ),
    finished: new Map(ofKind('upload').map((row) => [bytesHex(row.key.slice(RECLAIM_ID_AT)), row.value])),
    deletedBuckets: new Set(ofKind('bucket').map((row) => integerAt(row.key, RECLAIM_ID_AT))),
  }
  for (const record of tables.contents.values()) {
    if (record.kind === 'file') tables.fileRows.set(record.rows, record)
  }
  for (const [content, { content: record }] of tables.dropped) {
    if (record.kind === 'file') tables.fileRows.set(record.successor === undefined ? record.rows : content, record)
  }
  await readPieces(view, tables)
  await readEntries(view, tables)
  return tables
}

async function readPieces(view: ReadView, tables: Tables): Promise<void> {
  const ends = new Map<ContentId, number>()
  for (const row of await tableRows(view, PIECES)) {
    const content = integerAt(row.key, 2)
    const list = tables.pieces.get(content) ?? []
    tables.pieces.set(content, list)
    const { firstOffset, pieces } = decodePieceRow(row.value)
    demand(pieces.length > 0 && pieces.length <= PIECES_PER_ROW, `a row of ${content} has some pieces`)
    const file = tables.fileRows.get(content)
    if (file) {
      checkFileRow(row, { file, firstOffset, pieces, ends })
      list.push(...pieces)
      continue
    }
    const before = list.reduce((sum, piece) => sum + piece.length, 0)
    demand(firstOffset === before && integerAt(row.key, 10) === before, `pieces of ${content} follow each other`)
    demand(integerAt(row.key, 18) === list.length, `pieces of ${content} are numbered`)
    list.push(...pieces)
  }
}

/** Rows with all pieces of a file have no gap, those with what was taken out may have. */
function checkFileRow(
  row: Row,
  has: { file: FileContent; firstOffset: number; pieces: readonly Piece[]; ends: Map<ContentId, number> },
): void {
  const { file, firstOffset, pieces, ends } = has
  const rows = integerAt(row.key, 2)
  const before = ends.get(rows) ?? 0
  demand(integerAt(row.key, 10) === firstOffset && integerAt(row.key, 18) === 0, `row of ${rows} lies where it begins`)
  if (file.successor === undefined) demand(firstOffset === before, `rows of file ${rows} follow each other`)
  else demand(firstOffset >= before, `rows of file ${rows} do not overlap`)
  for (const piece of pieces) demand(piece.length > 0 && !piece.part, `pieces of file ${rows} have a length`)
  ends.set(
    rows,
    pieces.reduce((end, piece) => end + piece.length, firstOffset),
  )
}

async function readEntries(view: ReadView, tables: Tables): Promise<void> {
  for (const row of await tableRows(view, ENTRIES)) {
    const parent = integerAt(row.key, 2)
    const name = row.key.slice(ENTRY_NAME_AT)
    const entry = decodeEntry(row.value)
    if (entry.kind === 'directory') addDirectory(tables, entry.inode, { parent, name, hidden: false })
    else {
      demand(entry.kind === 'object', `D row of ${JSON.stringify(name)} is a live object`)
      named(tables, parent, name).current = entry
    }
  }
  for (const row of await tableRows(view, VERSIONS)) {
    const { parent, name, slot } = parseVersionKey(row.key)
    const entry = decodeEntry(row.value)
    if (slot === 'hidden') {
      demand(entry.kind === 'directory', 'the hidden slot holds a directory')
      addDirectory(tables, entry.inode, { parent, name, hidden: true })
    } else if (slot === 'null') {
      demand(entry.kind === 'pointer', 'the null slot holds a pointer')
      named(tables, parent, name).nullPointer = entry.version
    } else {
      demand(entry.kind === 'object' || entry.kind === 'marker', 'a version is an object or a marker')
      demand(row.key.endsWith(versionSuffix(entry.version)), 'a version lies under its number')
      named(tables, parent, name).older.push(entry)
    }
  }
}

function addDirectory(tables: Tables, inode: InodeId, where: { parent: InodeId; name: string; hidden: boolean }): void {
  demand(where.name.endsWith('/'), `directory ${JSON.stringify(where.name)} has its slash`)
  demand(!tables.directories.has(inode), `directory ${JSON.stringify(where.name)} has one entry`)
  tables.directories.set(inode, where)
}

function named(tables: Tables, parent: InodeId, name: string): NamedVersions {
  demand(!name.includes('/'), `object name ${JSON.stringify(name)} has no slash`)
  const key = `${parent}/${name}`
  const known = tables.names.get(key) ?? { parent, name, current: undefined, older: [], nullPointer: undefined }
  tables.names.set(key, known)
  return known
}

/** D exists exactly if the newest version is live; one null version at most; the pointer names it. */
function checkNames(tables: Tables): void {
  for (const { name, current, older, nullPointer } of tables.names.values()) {
    const what = JSON.stringify(name)
    const numbers = [...(current ? [current.version] : []), ...older.map((entry) => entry.version)]
    demand(
      numbers.every((number, index) => index === 0 || number < (numbers[index - 1] ?? 0)),
      `versions of ${what} descend`,
    )
    if (!current) demand(older[0]?.kind === 'marker', `${what} has no D row, so its newest version is a marker`)
    const nulls = older.filter((entry) => entry.isNull)
    demand(nulls.length + (current?.isNull ? 1 : 0) <= 1, `${what} has one null version at most`)
    demand(nulls[0]?.version === nullPointer, `the null pointer of ${what} names its null version`)
  }
}

/** No directory is empty; a live one has a live child, a hidden one has none; every parent is there. */
function checkDirectories(tables: Tables): void {
  const live = new Set<InodeId>()
  const any = new Set<InodeId>()
  for (const { parent, current } of tables.names.values()) {
    any.add(parent)
    if (current) live.add(parent)
  }
  for (const { parent, hidden } of tables.directories.values()) {
    any.add(parent)
    if (!hidden) live.add(parent)
  }
  for (const [inode, { name, parent, hidden }] of tables.directories) {
    const what = `directory ${JSON.stringify(name)} (${inode})`
    demand(any.has(inode), `${what} is not empty`)
    demand(live.has(inode) === !hidden, `${what} is ${hidden ? 'hidden' : 'live'} as what it holds`)
    const record = tables.inodes.get(inode)
    demand(record?.kind === 'directory', `${what} has its inode`)
    demand(record.parent === parent && record.name === name, `${what} knows its parent and name`)
  }
  for (const parent of any)
    demand(tables.directories.has(parent) || tables.roots.has(parent), `parent ${parent} exists`)
}

/** Every inode says the same as its entries. */
function checkInodes(tables: Tables): void {
  for (const { name, current, older } of tables.names.values()) {
    for (const entry of [...(current ? [current] : []), ...older]) {
      if (entry.kind === 'marker') continue
      const inode = tables.inodes.get(entry.inode)
      const what = `inode ${entry.inode} of ${JSON.stringify(name)}`
      demand(inode?.kind === 'object', `${what} exists`)
      demand(inode.size === entry.size && inode.etag === entry.etag, `${what} agrees with its entry`)
      demand(inode.mtimeMs === entry.mtimeMs, `${what} agrees with its entry`)
      demand(inode.revision === entry.revision && inode.expiresMs === entry.expiresMs, `${what} agrees with its entry`)
    }
  }
  for (const [id, inode] of tables.inodes) {
    if (inode.kind === 'directory') checkDirectoryInode(tables, id, inode)
  }
}

function* objectEntries(tables: Tables): Generator<EntryAt> {
  for (const { parent, name, current, older } of tables.names.values()) {
    for (const entry of [...(current ? [current] : []), ...older]) {
      if (entry.kind === 'object') yield { parent, name, entry }
    }
  }
}

/** T has a row exactly for each current version that expires. */
async function checkExpiries(view: ReadView, tables: Tables): Promise<void> {
  const wanted = new Map<string, string>()
  for (const { name, current } of tables.names.values()) {
    if (current?.kind === 'object' && current.expiresMs !== undefined) {
      wanted.set(expiryKey(current.expiresMs, current.inode), name)
    }
  }
  for (const row of await tableRows(view, EXPIRIES)) {
    demand(row.value.length === 0, 'a T row has no value')
    demand(wanted.delete(row.key), `T row of inode ${integerAt(row.key, 10)} belongs to a current version`)
  }
  for (const name of wanted.values()) demand(false, `${JSON.stringify(name)}, which expires, has its T row`)
}

function checkDirectoryInode(tables: Tables, id: InodeId, inode: DirectoryInode): void {
  const root = tables.roots.get(id)
  if (root) demand(inode.parent === 0 && inode.name === root.name, `root of ${root.name} knows its bucket`)
  else demand(tables.directories.has(id), `directory inode ${id} is referred to`)
}

/** References are what refers; nothing refers to what is not there; nothing is there that nothing refers to. */
function checkContents(tables: Tables): void {
  const counts = new Map<ContentId, number>()
  const refer = (content: ContentId | undefined, count: number): void => {
    if (content !== undefined) counts.set(content, (counts.get(content) ?? 0) + count)
  }
  for (const inode of tables.inodes.values()) {
    if (inode.kind === 'object' && inode.body.kind === 'content') refer(inode.body.content, 1)
    if (inode.kind === 'object') checkSize(tables, inode)
  }
  for (const [composite, pieces] of tables.pieces) {
    const record =
      tables.fileRows.get(composite) ?? tables.contents.get(composite) ?? tables.dropped.get(composite)?.content
    if (record?.kind === 'file') {
      for (const piece of pieces) refer(piece.content, 1)
      continue
    }
    demand(record?.kind === 'composite', `pieces of ${composite} belong to a composite`)
    if (record.ownsPieces) for (const piece of pieces) refer(piece.content, 1)
  }
  for (const row of tables.parts) {
    const upload = bytesHex(row.key.slice(2, 18))
    const used = tables.finished.get(upload)
    demand(
      used ?? (tables.uploads.has(upload) || tables.deletedBuckets.size > 0),
      `part of upload ${upload} has its upload`,
    )
    if (!used || !isUsed(used, partNumberOf(row.key))) refer(decodePiece(row.value).content, 1)
  }
  for (const [content, count] of counts) {
    const record = tables.contents.get(content)
    demand(record, `content ${content} that is referred to exists`)
    demand(record.references === count, `content ${content} has ${record.references} references, ${count} refer to it`)
  }
  for (const content of tables.contents.keys()) demand(counts.has(content), `content ${content} is referred to`)
  for (const content of tables.dropped.keys())
    demand(!tables.contents.has(content), `content ${content} is kept or dropped`)
}

function checkSize(tables: Tables, inode: ObjectInode): void {
  const what = `object ${JSON.stringify(inode.name)}`
  if (inode.body.kind === 'inline') {
    demand(inode.body.bytes.length === inode.size, `${what} has its size inline`)
    return
  }
  if (inode.body.kind === 'external') {
    demand(inode.body.external.size === inode.size, `${what} has the size of its external body`)
    return
  }
  const { content } = inode.body
  const record = tables.contents.get(content)
  demand(record?.length === inode.size, `${what} has the length of its content`)
  if (record.kind === 'file') {
    checkFile(tables, record, what)
    return
  }
  if (record.kind !== 'composite') return
  const sum = (tables.pieces.get(content) ?? []).reduce((total, piece) => total + piece.length, 0)
  demand(sum === inode.size, `${what} has the length of its pieces`)
}

function checkFile(tables: Tables, file: FileContent, what: string): void {
  const pieces = tables.pieces.get(file.rows) ?? []
  const [sum, stored] = [pieces, pieces.filter((piece) => piece.content !== undefined)].map((some) =>
    some.reduce((total, piece) => total + piece.length, 0),
  )
  demand(sum === file.rowsEnd, `${what} has the pieces that its content says`)
  demand(stored === file.storedBytes && pieces.length === file.pieceCount, `${what} counts its pieces`)
}

/** Live bytes of a segment are the sum of its leaves, those included that wait to be taken apart. */
async function checkSegments(view: ReadView, tables: Tables): Promise<void> {
  const live = new Map<SegmentId, number>()
  const leaves = [...tables.contents.values(), ...[...tables.dropped.values()].map(({ content }) => content)]
  for (const leaf of leaves) {
    if (leaf.kind === 'leaf') live.set(leaf.segment, (live.get(leaf.segment) ?? 0) + leaf.length)
  }
  for (const row of await tableRows(view, SEGMENT_STATE_ROWS)) {
    const segment = bytesHex(row.key.slice(SEGMENT_STATE_ROWS.length)) as SegmentId
    if (!live.has(segment)) live.set(segment, 0)
  }
  for (const [segment, bytes] of live) {
    const [counted] = await view.counters(segmentLiveKey(segment), 1)
    demand(counted === bytes, `segment ${segment} counts ${counted} live bytes, its leaves have ${bytes}`)
  }
}

async function checkUsage(view: ReadView, tables: Tables, node: string): Promise<void> {
  const usage = new Map<InodeId, { objects: number; bytes: number }>()
  for (const root of tables.roots.keys()) usage.set(root, { objects: 0, bytes: 0 })
  for (const inode of tables.inodes.values()) {
    if (inode.kind !== 'object' || linksOf(inode) === 0) continue
    let { parent } = inode
    for (let above = tables.directories.get(parent); above; above = tables.directories.get(parent))
      parent = above.parent
    const sum = usage.get(parent)
    demand(sum, `object ${JSON.stringify(inode.name)} lies in a bucket`)
    sum.objects++
    sum.bytes += inode.size
  }
  for (const [bucket, sum] of usage) {
    const [objects, bytes] = await view.counters(usageKey(bucket, node), 2)
    demand(objects === sum.objects && bytes === sum.bytes, `usage of bucket ${bucket}: ${objects}, ${bytes}`)
  }
}
