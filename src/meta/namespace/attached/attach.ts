/** The attachments themselves: a bucket that is a mirror, and the row that says of what. */
import { TidegateError } from '../../../common/errors.ts'
import type { AttachmentRecord } from '../../../common/external.ts'
import { putBucket } from '../buckets.ts'
import { leaseInodes, readBucket, type Commit } from '../context.ts'
import { prefixRange } from '../keys.ts'
import { validateBucketName } from '../names.ts'
import type { MirrorContext } from './mirror-context.ts'
import { ATTACHMENTS, attachmentKey, decodeAttachment, encodeAttachment } from './rows.ts'
import type { AttachRequest } from './types.ts'

const ATTACHMENTS_PER_SCAN = 1000

/** @throws BucketAlreadyExists, BucketAlreadyOwnedByYou, InvalidBucketName */
export async function attach(context: MirrorContext, request: AttachRequest): Promise<Commit<AttachmentRecord>> {
  const { bucket: name, owner, region, ack, attachment } = request
  validateBucketName(name)
  const { first: id } = await leaseInodes(context, 1)
  return context.store.transact(async (tx) => {
    await putBucket(context, tx, { name, owner, region, ack, id, isAttached: true })
    const record: AttachmentRecord = { ...attachment, bucketId: id, bucket: name }
    tx.put(attachmentKey(id), encodeAttachment(record))
    // Before anybody can write to it. In vain it does no harm: no bucket gets this id again.
    context.tracked.add(id)
    return record
  })
}

/** @throws NoSuchBucket, InvalidRequest when it is not attached */
export function change(context: MirrorContext, name: string, attachment: AttachmentRecord): Promise<Commit<void>> {
  return context.store.transact(async (tx) => {
    const { id } = await readBucket(tx, name)
    const key = attachmentKey(id)
    if (!(await tx.get(key)))
      throw new TidegateError('InvalidRequest', `bucket ${JSON.stringify(name)} is not attached`)
    tx.put(key, encodeAttachment({ ...attachment, bucketId: id, bucket: name }))
  })
}

export function attachments(context: MirrorContext): Promise<readonly AttachmentRecord[]> {
  return context.store.read(async (view) => {
    const records: AttachmentRecord[] = []
    let { start, end } = prefixRange(ATTACHMENTS)
    for (;;) {
      const rows = await view.scan({ start, end }, ATTACHMENTS_PER_SCAN)
      for (const { key, value } of rows) records.push(decodeAttachment(key, value))
      const last = rows.at(-1)
      if (!last || rows.length < ATTACHMENTS_PER_SCAN) return records
      start = `${last.key}\0` as typeof start
    }
  })
}

export function notAttached(name: string): TidegateError {
  return new TidegateError('InvalidRequest', `bucket ${JSON.stringify(name)} is not attached`, {
    details: { bucket: name },
  })
}
