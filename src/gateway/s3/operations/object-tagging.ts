/** Get, put and delete of an object's tags: one sub-resource, three operations of a few lines. */
import { DOCUMENT_BYTES_MAX, receiveDocument } from '../body/document.ts'
import type { Call } from '../call.ts'
import { S3Error } from '../errors.ts'
import { hideMissingKey } from '../missing-key.ts'
import type { Operation } from '../operation.ts'
import { parseTaggingXml, taggingDocument, type Tags } from '../tags.ts'

export const getObjectTagging = {
  name: 'GetObjectTagging',
  method: 'GET',
  level: 'object',
  subresource: 'tagging',
  access: (call) => call.authorize(call.versionId === undefined ? 's3:GetObjectTagging' : 's3:GetObjectVersionTagging'),
  run: async (call) => {
    try {
      const version = await call.store.objects.head(call.address, {})
      call.sendXml(taggingDocument(version.attributes.tags), withVersion(call, version.versionId))
    } catch (error) {
      throw hideMissingKey(call, error)
    }
  },
} as const satisfies Operation

export const putObjectTagging = {
  name: 'PutObjectTagging',
  method: 'PUT',
  level: 'object',
  subresource: 'tagging',
  access: (call) => call.authorize(call.versionId === undefined ? 's3:PutObjectTagging' : 's3:PutObjectVersionTagging'),
  run: async (call) => {
    const text = await receiveDocument(call, { bytesMax: DOCUMENT_BYTES_MAX })
    if (text === '') throw new S3Error('MissingRequestBodyError')
    call.send(200, await setTags(call, parseTaggingXml(text, call.door.limits.tagsMax)))
  },
} as const satisfies Operation

export const deleteObjectTagging = {
  name: 'DeleteObjectTagging',
  method: 'DELETE',
  level: 'object',
  subresource: 'tagging',
  access: (call) =>
    call.authorize(call.versionId === undefined ? 's3:DeleteObjectTagging' : 's3:DeleteObjectVersionTagging'),
  run: async (call) => call.send(204, await setTags(call, {})),
} as const satisfies Operation

async function setTags(call: Call, tags: Tags): Promise<string[]> {
  const { versionId } = await call.store.objects.setTags(call.address, tags)
  return withVersion(call, versionId)
}

function withVersion(call: Call, versionId: string | undefined): string[] {
  const headers = call.replyHeaders()
  if (versionId !== undefined) headers.push('x-amz-version-id', versionId)
  return headers
}
