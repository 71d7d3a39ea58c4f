/** Multipart uploads up to their completion: beginning, parts, listing parts, giving up. */
import { TidegateError } from '../../common/errors.ts'
import { utf8Bytes, type ByteString } from '../../common/ids.ts'
import type { BucketRecord, ObjectChecksum, StoredRun, UploadPart, UploadRecord } from '../../common/model.ts'
import type { ReadView, Transaction } from '../ports.ts'
import { readBucket, type Commit, type NamespaceContext } from './context.ts'
import { PART_NUMBER_AT, finishedUploadKey, integerAt, partKey, partsPrefix, prefixEnd, uploadKey } from './keys.ts'
import { validateNewKey } from './names.ts'
import { must } from '../../common/assert.ts'
import { decodePiece, decodeUpload, encodePiece, encodeUpload, type Piece, type Upload } from './records-contents.ts'
import { addRun, dropReference } from './references.ts'

export interface UploadAddress {
  readonly bucket: string
  readonly key: string
  readonly uploadId: string
}

export interface FoundUpload {
  readonly bucket: BucketRecord
  readonly rowKey: ByteString
  readonly upload: Upload
}

export interface PutPartRequest extends UploadAddress {
  readonly partNumber: number
  readonly run: StoredRun | undefined
  readonly size: number
  readonly etag: string
  readonly checksum: ObjectChecksum | undefined
}

const UPLOAD_ID = /^[0-9a-f]{32}$/
const UPLOAD_ID_BYTES = 16
const NOTHING_USED = new Uint8Array(0)

/** @throws NoSuchUpload */
export async function findUpload(view: ReadView, address: UploadAddress): Promise<FoundUpload> {
  const bucket = await readBucket(view, address.bucket)
  if (!UPLOAD_ID.test(address.uploadId)) throw noSuchUpload(address.uploadId)
  const rowKey = uploadKey(bucket.id, utf8Bytes(address.key), address.uploadId)
  const row = await view.get(rowKey)
  if (!row) throw noSuchUpload(address.uploadId)
  return { bucket, rowKey, upload: decodeUpload(row) }
}

export function noSuchUpload(uploadId: string): TidegateError {
  return new TidegateError('NoSuchUpload', `no upload ${JSON.stringify(uploadId)}`, { details: { uploadId } })
}

export function uploadRecord(address: UploadAddress, upload: Upload): UploadRecord {
  const { bucket, key, uploadId } = address
  const { initiatedMs, owner, attributes, checksumAlgorithm, checksumType } = upload
  return { bucket, key, uploadId, initiatedMs, owner, attributes, checksumAlgorithm, checksumType }
}

export async function createUpload(
  context: NamespaceContext,
  request: Omit<UploadRecord, 'uploadId' | 'initiatedMs'>,
): Promise<Commit<UploadRecord>> {
  const keyBytes = validateNewKey(request.key, context.limits)
  const initiatedMs = context.clock.nowMs()
  // The time first, so that the uploads of one key are listed by age.
  const id = Buffer.alloc(UPLOAD_ID_BYTES)
  context.fillRandom(id)
  id.writeUIntBE(initiatedMs, 0, 6)
  const uploadId = id.toString('hex')
  const { owner, attributes, checksumAlgorithm, checksumType } = request
  const upload: Upload = { initiatedMs, token: 0, owner, attributes, checksumAlgorithm, checksumType }
  return context.store.transact(async (tx) => {
    const bucket = await readBucket(tx, request.bucket)
    tx.put(uploadKey(bucket.id, keyBytes, uploadId), encodeUpload(upload))
    return uploadRecord({ ...request, uploadId }, upload)
  })
}

export function readUpload(context: NamespaceContext, address: UploadAddress): Promise<UploadRecord> {
  return context.store.read(async (view) => uploadRecord(address, (await findUpload(view, address)).upload))
}

export async function putPart(context: NamespaceContext, request: PutPartRequest): Promise<Commit<UploadPart>> {
  checkPartNumber(context, request.partNumber)
  return context.store.transact(async (tx) => {
    const found = await findUpload(tx, request)
    const { run, size, partNumber, etag, checksum } = request
    if (run) addRun(tx, run, 'journal')
    const part = { partNumber, etag, checksum, mtimeMs: context.clock.nowMs() }
    const range = { content: run?.content, contentOffset: 0, length: size }
    await replacePart(tx, found, { uploadId: request.uploadId, piece: { ...range, part } })
    return { ...part, size }
  })
}

/** @throws InvalidArgument */
export function checkPartNumber(context: NamespaceContext, partNumber: number): void {
  const { partsMax } = context.limits
  if (Number.isSafeInteger(partNumber) && partNumber >= 1 && partNumber <= partsMax) return
  throw new TidegateError('InvalidArgument', `part number ${partNumber} is not between 1 and ${partsMax}`, {
    details: { argument: 'partNumber', value: partNumber },
  })
}

/** Puts a part whose reference is already counted, drops the one it replaces, and sends a racing Complete back to its start. */
export async function replacePart(
  tx: Transaction,
  found: FoundUpload,
  put: { uploadId: string; piece: Piece },
): Promise<void> {
  const key = partKey(put.uploadId, must(put.piece.part, 'part of an upload').partNumber)
  const replaced = await tx.get(key)
  tx.put(key, encodePiece(put.piece))
  const old = replaced && decodePiece(replaced)
  if (old?.content !== undefined) await dropReference(tx, old.content)
  if (found.upload.token !== 0) tx.put(found.rowKey, encodeUpload({ ...found.upload, token: 0 }))
}

export function listParts(
  context: NamespaceContext,
  request: UploadAddress & { after: number; limit: number },
): Promise<{ upload: UploadRecord; parts: UploadPart[]; truncated: boolean }> {
  return context.store.read(async (view) => {
    const { upload } = await findUpload(view, request)
    const start = partKey(request.uploadId, request.after + 1)
    const end = prefixEnd(partsPrefix(request.uploadId))
    const rows = request.limit > 0 ? await view.scan({ start, end }, request.limit + 1) : []
    const parts = rows.slice(0, request.limit).map((row) => partOf(decodePiece(row.value)))
    return { upload: uploadRecord(request, upload), parts, truncated: rows.length > request.limit }
  })
}

function partOf(piece: Piece): UploadPart {
  return { ...must(piece.part, 'part of an upload'), size: piece.length }
}

export function partNumberOf(partRowKey: string): number {
  return integerAt(partRowKey, PART_NUMBER_AT)
}

/** The parts are dropped by the reclaimer. */
export async function abortUpload(
  context: NamespaceContext,
  bucket: string,
  key: string,
  uploadId: string,
): Promise<Commit<void>> {
  return context.store.transact(async (tx) => {
    const { rowKey } = await findUpload(tx, { bucket, key, uploadId })
    tx.delete(rowKey)
    tx.put(finishedUploadKey(uploadId), NOTHING_USED)
  })
}
