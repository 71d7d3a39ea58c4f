import { isTidegateError } from '../../../common/errors.ts'
import { DOCUMENT_BYTES_MAX, receiveDocument } from '../body/document.ts'
import type { Call } from '../call.ts'
import { S3Error } from '../errors.ts'
import type { Operation } from '../operation.ts'
import { childText, parseRoot } from '../xml/parse.ts'

/** The one region in which re-creating one's own bucket succeeds. */
const LEGACY_REGION = 'us-east-1'

export const createBucket = {
  name: 'CreateBucket',
  method: 'PUT',
  level: 'bucket',
  features: true,
  ack: true,
  access: (call) => call.authorize('s3:CreateBucket'),
  run: async (call) => {
    const { region } = call.door
    checkLocation(await receiveDocument(call, { bytesMax: DOCUMENT_BYTES_MAX }), region)
    const owner = call.authenticated.principal.id
    try {
      await call.store.buckets.create({ name: call.bucket, owner, region, ack: call.ack })
    } catch (error) {
      if (region !== LEGACY_REGION || !isTidegateError(error, 'BucketAlreadyOwnedByYou')) throw error
    }
    sendCreated(call)
  },
} as const satisfies Operation

function sendCreated(call: Call): void {
  const headers = call.replyHeaders()
  headers.push('Location', `/${encodeURIComponent(call.bucket)}`)
  call.send(200, headers)
}

/** A constraint may name our region, or be left out; `EU` is AWS's old word for eu-west-1. */
function checkLocation(text: string, region: string): void {
  if (text === '') return
  const constraint = childText(parseRoot(text, 'CreateBucketConfiguration'), 'LocationConstraint')
  if (constraint === undefined || constraint === '' || constraint === region) return
  if (constraint === 'EU' && region === 'eu-west-1') return
  throw new S3Error(
    'IllegalLocationConstraintException',
    `The ${constraint} location constraint is incompatible for the region specific endpoint this request was sent to.`,
  )
}
