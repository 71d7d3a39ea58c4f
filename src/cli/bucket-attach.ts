/** `tidegate bucket attach` and `tidegate bucket change`. */
import { CONFLICT_POLICIES } from '../common/external.ts'
import { onlyNames, parseArguments } from './arguments.ts'
import { attachmentPath, ATTACHMENTS_PATH, attachmentText, type ShownAttachment } from './bucket-text.ts'
import { UsageError, type CliContext, type ExitCode } from './command.ts'
import { connect, CONNECTION_OPTIONS } from './connection.ts'
import { durationMs } from './duration.ts'

const POLICY_OPTIONS = {
  conflicts: { type: 'string' },
  ttl: { type: 'string' },
  'listing-ttl': { type: 'string' },
  'compare-interval': { type: 'string' },
} as const

const ACKS: readonly string[] = ['memory', 'journal', 'persisted']

export async function attachBucket(
  argv: readonly string[],
  context: CliContext,
  { change = false }: { readonly change?: boolean } = {},
): Promise<ExitCode> {
  const ackOption = { ack: { type: 'string' } } as const
  const { values, positionals } = parseArguments(argv, { ...CONNECTION_OPTIONS, ...POLICY_OPTIONS, ...ackOption })
  const policy = policyOf(values)
  if (change) {
    const [bucket] = onlyNames(positionals, 'the name of the bucket')
    if (values.ack !== undefined) throw new UsageError('--ack is decided when a bucket is attached')
    if (Object.keys(policy).length === 0) throw new UsageError('bucket change wants something to change')
    const request = { method: 'PATCH', path: attachmentPath(bucket), json: policy }
    const changed = (await (await connect(values, context.env).send(request)).json()) as ShownAttachment
    context.stdout.write(values.json === true ? `${JSON.stringify(changed, undefined, 2)}\n` : attachmentText(changed))
    return 0
  }
  const [bucket, url] = onlyNames(positionals, 'the name of the bucket', 'the URL of the external bucket')
  const json = { bucket, url, ...policy, ...(values.ack === undefined ? {} : { ack: ackOf(values.ack) }) }
  const response = await connect(values, context.env).send({ method: 'POST', path: ATTACHMENTS_PATH, json })
  const made = (await response.json()) as ShownAttachment
  context.stdout.write(
    values.json === true ? `${JSON.stringify(made, undefined, 2)}\n` : `${made.bucket} is attached to ${made.url}\n`,
  )
  return 0
}

function policyOf(values: Partial<Record<keyof typeof POLICY_OPTIONS, string>>): object {
  const { conflicts, ttl, 'listing-ttl': listingTtl, 'compare-interval': compareInterval } = values
  if (conflicts !== undefined && !(CONFLICT_POLICIES as readonly string[]).includes(conflicts)) {
    throw new UsageError(`--conflicts ${JSON.stringify(conflicts)} is none of ${CONFLICT_POLICIES.join(', ')}`)
  }
  return {
    ...(conflicts === undefined ? {} : { conflicts }),
    ...(ttl === undefined ? {} : { ttlMs: durationMs('--ttl', ttl) }),
    ...(listingTtl === undefined ? {} : { listingTtlMs: durationMs('--listing-ttl', listingTtl) }),
    ...(compareInterval === undefined ? {} : { compareIntervalMs: durationMs('--compare-interval', compareInterval) }),
  }
}

function ackOf(text: string): string {
  if (ACKS.includes(text)) return text
  throw new UsageError(`--ack ${JSON.stringify(text)} is none of ${ACKS.join(', ')}`)
}
