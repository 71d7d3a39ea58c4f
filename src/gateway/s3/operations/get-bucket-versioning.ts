import type { Versioning } from '../../../common/model.ts'
import type { Operation } from '../operation.ts'
import { document, element } from '../xml/escape.ts'

const STATUS: Record<Versioning, string | undefined> = { off: undefined, enabled: 'Enabled', suspended: 'Suspended' }

export const getBucketVersioning = {
  name: 'GetBucketVersioning',
  method: 'GET',
  level: 'bucket',
  subresource: 'versioning',
  access: (call) => call.authorize('s3:GetBucketVersioning'),
  run: async (call) => {
    const { versioning } = await call.store.buckets.get(call.bucket)
    call.sendXml(document('VersioningConfiguration', element('Status', STATUS[versioning])))
  },
} as const satisfies Operation
