/** Where external buckets are, as far as can be told from their URLs: two attachments of one gateway must not lie in each other. */
import { TidegateError } from '../common/errors.ts'

export interface ExternalPlace {
  readonly bucket: string
  /** Without slashes at its ends; empty for the whole bucket. */
  readonly prefix: string
  /** Undefined: AWS's own. */
  readonly endpoint?: string | undefined
}

export interface NamedPlace {
  /** For the message: `bucket "photos"`, `--remote`. */
  readonly name: string
  readonly place: ExternalPlace
}

const LOOPBACK: ReadonlySet<string> = new Set(['localhost', '[::1]'])
const AWS = /(^|\.)amazonaws\.com(\.cn)?$/

/**
 * What was written here through one of two would be a change made outside for the other, and what `--remote` keeps is nobody's objects.
 * Two names of one host are not found out; then conditions keep each from overwriting what the other did.
 *
 * @throws InvalidArgument
 */
export function refuseOverlap(place: ExternalPlace, others: readonly NamedPlace[]): void {
  for (const { name, place: other } of others) {
    if (!overlap(place, other)) continue
    const at = describe(place)
    throw new TidegateError('InvalidArgument', `${at} overlaps ${describe(other)}, where ${name} is`, {
      details: { place: at },
    })
  }
}

export function overlap(one: ExternalPlace, other: ExternalPlace): boolean {
  if (one.bucket !== other.bucket || storeOf(one) !== storeOf(other)) return false
  const [a, b] = [below(one.prefix), below(other.prefix)]
  return a.startsWith(b) || b.startsWith(a)
}

export function describe({ bucket, prefix, endpoint }: ExternalPlace): string {
  return `s3://${prefix === '' ? bucket : `${bucket}/${prefix}`}${endpoint === undefined ? '' : ` at ${endpoint}`}`
}

function below(prefix: string): string {
  return prefix === '' ? '' : `${prefix}/`
}

/** The name of a bucket is the same in all regions of AWS. */
function storeOf({ endpoint }: ExternalPlace): string {
  if (endpoint === undefined) return 'aws'
  const url = new URL(endpoint)
  if (AWS.test(url.hostname)) return 'aws'
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port
  return `${LOOPBACK.has(url.hostname) ? '127.0.0.1' : url.hostname}:${port}`
}
