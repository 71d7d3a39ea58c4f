import type { Conditions } from '../../../common/model.ts'
import { DELETE_BYTES_MAX, receiveDocument } from '../body/document.ts'
import type { Call } from '../call.ts'
import { bareEtag } from '../../http/conditional-headers.ts'
import { matchedSize, matchedTime } from '../conditions.ts'
import { shownError } from '../error-response.ts'
import { S3Error } from '../errors.ts'
import type { Operation } from '../operation.ts'
import { checkKey } from '../target.ts'
import { document, element } from '../xml/escape.ts'
import { childrenNamed, childText, parseRoot, type XmlElement } from '../xml/parse.ts'

const KEYS_MAX = 1000
/** Deletes under way at once: enough to share syncs, few enough to leave room for other requests. */
const CONCURRENT_MAX = 64

interface Entry {
  readonly key: string
  readonly versionId: string | undefined
  readonly conditions: Conditions
}

export const deleteObjects = {
  name: 'DeleteObjects',
  method: 'POST',
  level: 'bucket',
  subresource: 'delete',
  /**
   * What is deleted is known only once the body is read: each key is authorised by itself then (lesson 5.1.18). Anonymous
   * senders would need a policy that says so, and are asked for one key's worth of it before their body is read.
   */
  ack: true,
  access: (call) => {
    if (call.authenticated.form === 'anonymous') call.authorize('s3:DeleteObject', { bucket: call.bucket, key: '' })
    call.authorized = true
  },
  run: async (call) => {
    const text = await receiveDocument(call, { bytesMax: DELETE_BYTES_MAX, digestRequired: true })
    const root = parseRoot(text, 'Delete')
    const quiet = childText(root, 'Quiet')?.toLowerCase() === 'true'
    const entries = parseEntries(root, call.door.limits.addressedKeyBytesMax)
    await call.store.buckets.get(call.bucket)
    const { ack } = call
    let content = ''
    for (let first = 0; first < entries.length; first += CONCURRENT_MAX) {
      const batch = entries.slice(first, first + CONCURRENT_MAX)
      const results = await Promise.all(batch.map((entry) => deleteOne(call, entry, { quiet, ack })))
      content += results.join('')
    }
    call.sendXml(document('DeleteResult', content))
  },
} as const satisfies Operation

function parseEntries(root: XmlElement, keyBytesMax: number): Entry[] {
  const objects = childrenNamed(root, 'Object')
  if (objects.length === 0 || objects.length > KEYS_MAX) throw new S3Error('MalformedXML')
  return objects.map((object) => {
    const key = childText(object, 'Key')
    if (key === undefined || key === '') throw new S3Error('MalformedXML')
    const versionId = childText(object, 'VersionId')
    const etag = childText(object, 'ETag')
    const modified = childText(object, 'LastModifiedTime')
    const size = childText(object, 'Size')
    return {
      key: checkKey(key, keyBytesMax),
      versionId: versionId === '' ? undefined : versionId,
      conditions: {
        ...(etag === undefined ? {} : { ifMatch: [bareEtag(etag)] }),
        ...(modified === undefined ? {} : { ifMatchLastModifiedMs: matchedTime(modified) }),
        ...(size === undefined ? {} : { ifMatchSize: matchedSize(size) }),
      },
    }
  })
}

/** One row of the answer; an error is one too, and stops nothing. */
async function deleteOne(call: Call, entry: Entry, options: { quiet: boolean; ack: Call['ack'] }): Promise<string> {
  const { key, versionId } = entry
  const named = element('Key', key) + element('VersionId', versionId)
  try {
    call.authorize(
      versionId === undefined ? 's3:DeleteObject' : 's3:DeleteObjectVersion',
      { bucket: call.bucket, key },
      {
        's3:versionid': versionId,
      },
    )
    const address = { bucket: call.bucket, key, versionId }
    const result = await call.store.objects.delete(address, entry.conditions, options.ack)
    if (options.quiet) return ''
    const marker = result.deleteMarker
      ? element('DeleteMarker', true) + element('DeleteMarkerVersionId', result.versionId)
      : ''
    return `<Deleted>${named}${marker}</Deleted>`
  } catch (error) {
    const shown = shownError(error)
    if (shown === undefined) throw error
    return `<Error>${named}${element('Code', shown.code)}${element('Message', shown.message)}</Error>`
  }
}
