/** What must be so for a bucket to be attached: its store answers, and can decide what the policy rests on (C32). */
import { isTidegateError, TidegateError } from '../common/errors.ts'
import type { ConflictPolicy } from '../common/external.ts'
import type { ExternalBucket, ExternalCapabilities } from './ports.ts'

/**
 * @throws in words of who attaches: what he named is at fault, not his own access to this gateway, and not a bucket of it
 */
export async function probed(external: ExternalBucket): Promise<ExternalCapabilities> {
  try {
    return await external.probe()
  } catch (cause) {
    throw inWords(external.description, cause)
  }
}

function inWords(place: string, cause: unknown): TidegateError {
  if (!isTidegateError(cause)) throw cause
  const refused = (code: 'InvalidArgument' | 'InvalidRequest' | 'Unavailable', why: string): TidegateError =>
    new TidegateError(code, `${place}: ${why}`, { cause, details: { place, storeCode: cause.code } })
  switch (cause.code) {
    case 'NoSuchBucket':
      return refused('InvalidArgument', 'there is no such bucket')
    case 'AccessDenied':
      return refused('InvalidRequest', `the store refuses the gateway's credentials: ${cause.message}`)
    case 'RequestTimeout':
    case 'SlowDown':
    case 'Unavailable':
      return refused('Unavailable', `the store does not answer: ${cause.message}`)
    default:
      return refused('InvalidRequest', cause.message)
  }
}

/** What `policy` needs and the store has not; undefined: nothing. */
export function lacking(policy: ConflictPolicy, capabilities: ExternalCapabilities): string | undefined {
  if (policy === 'last-writer-wins') return undefined
  const { conditionalPut, conditionalDelete } = capabilities
  if (conditionalPut && conditionalDelete) return undefined
  const missing = [...(conditionalPut ? [] : ['conditional PUT']), ...(conditionalDelete ? [] : ['conditional DELETE'])]
  return missing.join(' and no ')
}

/** @throws InvalidArgument */
export function refuseUnsafe(policy: ConflictPolicy, capabilities: ExternalCapabilities, place: string): void {
  const missing = lacking(policy, capabilities)
  if (missing === undefined) return
  throw new TidegateError(
    'InvalidArgument',
    `${place} has no ${missing}, so conflict policy ${policy} cannot be kept there: a change made outside could be overwritten ` +
      'unseen. Only last-writer-wins is possible with this store, and must be asked for',
    { details: { conflicts: policy, place } },
  )
}
