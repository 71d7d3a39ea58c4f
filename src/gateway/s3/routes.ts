/**
 * From a request to its operation: method, level, sub-resource and copy source select one row. What selects no row is
 * answered with NotImplemented or MethodNotAllowed, never with the plain resource: a client that asks for `?acl` must
 * not be sent a listing.
 */
import { S3Error } from './errors.ts'
import type { Operation } from './operation.ts'
import { OPERATIONS } from './operations.ts'
import type { Level, Target } from './target.ts'

/** Sub-resources of the S3 API, built or not; a parameter of this name selects an operation. */
const SUBRESOURCES: ReadonlySet<string> = new Set([
  'abac',
  'accelerate',
  'acl',
  'analytics',
  'append',
  'attributes',
  'cors',
  'delete',
  'encryption',
  'intelligent-tiering',
  'inventory',
  'legal-hold',
  'lifecycle',
  'list-type',
  'location',
  'logging',
  'metadataConfiguration',
  'metadataTable',
  'metrics',
  'notification',
  'object-lock',
  'ownershipControls',
  'policy',
  'policyStatus',
  'publicAccessBlock',
  'renameObject',
  'replication',
  'requestPayment',
  'restore',
  'retention',
  'select',
  'session',
  'tagging',
  'torrent',
  'uploadId',
  'uploads',
  'versioning',
  'versions',
  'website',
])

/** Parameters that clients send without a value, and that select nothing. */
const VALUELESS: ReadonlySet<string> = new Set([
  'prefix',
  'delimiter',
  'marker',
  'key-marker',
  'upload-id-marker',
  'version-id-marker',
  'continuation-token',
  'start-after',
  'encoding-type',
  'max-keys',
  'max-uploads',
  'max-parts',
  'max-buckets',
  'part-number-marker',
  'fetch-owner',
  'versionId',
  'partNumber',
  'bucket-region',
])

type RouteKey = `${string} ${Level} ${string}`

const PLAIN = ''

export function routeKey(operation: Operation): RouteKey {
  const selector = operation.subresource ?? PLAIN
  return `${operation.method} ${operation.level} ${selector}${operation.copy === true ? ' copy' : ''}`
}

const ROUTES: ReadonlyMap<string, Operation> = new Map(
  Object.values<Operation>(OPERATIONS).map((operation) => [routeKey(operation), operation]),
)

/** The plain rows again, found without building a key: they are most of all requests. */
const PLAIN_ROUTES: Record<Level, ReadonlyMap<string, Operation>> = {
  service: plainRoutes('service'),
  bucket: plainRoutes('bucket'),
  object: plainRoutes('object'),
}

function plainRoutes(level: Level): ReadonlyMap<string, Operation> {
  const rows = [...ROUTES.values()].filter((row) => row.level === level && routeKey(row).endsWith(' '))
  return new Map(rows.map((row) => [row.method, row]))
}

/** @throws S3Error NotImplemented, MethodNotAllowed, InvalidArgument */
export function route(method: string, target: Target, copySource: string | undefined): Operation {
  const selector = target.query.size === 0 ? PLAIN : selectorOf(target)
  const copies = copySource !== undefined && method === 'PUT' && target.level === 'object'
  const operation =
    selector === PLAIN && !copies
      ? PLAIN_ROUTES[target.level].get(method)
      : ROUTES.get(`${method} ${target.level} ${selector}${copies ? ' copy' : ''}`)
  if (operation !== undefined) return operation
  if (selector !== PLAIN) throw new S3Error('NotImplemented', undefined, { Header: selector })
  // A POST to a bucket is an HTML form upload, a preflight asks for CORS: both exist in S3, and are not built.
  if (method === 'OPTIONS' || (method === 'POST' && target.level === 'bucket')) throw new S3Error('NotImplemented')
  throw new S3Error('MethodNotAllowed', undefined, { Method: method, ResourceType: target.level.toUpperCase() })
}

function selectorOf(target: Target): string {
  let selector = PLAIN
  for (const [name, value] of target.query) {
    if (!SUBRESOURCES.has(name) && (value !== '' || VALUELESS.has(name) || name.startsWith('X-Amz-'))) continue
    if (selector !== PLAIN) {
      throw new S3Error('InvalidArgument', 'Conflicting query string parameters', {
        ResourceType: `${selector}, ${name}`,
      })
    }
    selector = name
  }
  return selector
}
