import { DOCUMENT_BYTES_MAX, receiveDocument } from '../body/document.ts'
import { S3Error } from '../errors.ts'
import type { Operation } from '../operation.ts'
import { childText, parseRoot } from '../xml/parse.ts'

export const putBucketVersioning = {
  name: 'PutBucketVersioning',
  method: 'PUT',
  level: 'bucket',
  subresource: 'versioning',
  features: true,
  access: (call) => call.authorize('s3:PutBucketVersioning'),
  run: async (call) => {
    const text = await receiveDocument(call, { bytesMax: DOCUMENT_BYTES_MAX })
    if (text === '') throw new S3Error('MissingRequestBodyError')
    const versioning = parseVersioning(text)
    await call.store.buckets.setVersioning(call.bucket, versioning)
    call.send(200, call.replyHeaders())
  },
} as const satisfies Operation

function parseVersioning(text: string): 'enabled' | 'suspended' {
  const root = parseRoot(text, 'VersioningConfiguration')
  // There are no MFA devices here: asking for them is refused, declining them is what happens anyway (C36).
  if (childText(root, 'MfaDelete') === 'Enabled')
    throw new S3Error('NotImplemented', undefined, { Header: 'MfaDelete' })
  const status = childText(root, 'Status')
  if (status === 'Enabled') return 'enabled'
  if (status === 'Suspended') return 'suspended'
  throw new S3Error('MalformedXML')
}
