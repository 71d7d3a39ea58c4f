/**
 * The S3 HTTP API. `createS3Door` returns the handler to which the HTTP server gives every request of the S3 port;
 * `dispatch` below is a request's life, in order:
 *
 *     authenticate      ../http/auth: one gate, nothing is known of the sender before it
 *     target            target.ts: bucket, key and query, from the raw target and the host that was signed
 *     route             routes.ts: method + level + sub-resource -> one row of operations.ts
 *     refuse            feature-headers.ts: what is asked for and not built is refused, not ignored (C36)
 *     authorise         the operation names IAM actions; an operation that names none is not run
 *     100 Continue      only now may the client send its body; the operation says when (lesson 5.1.14)
 *     operation         operations/: parse, do, encode
 *     error             error-response.ts: whatever was thrown, as S3's error document
 *
 * The target is parsed after authentication, since under which bucket a virtual host is read depends on the Host that the
 * signature covers, which behind a trusted proxy is not the one of the connection.
 *
 * ## What is not here
 *
 * ACLs, bucket policies by API, CORS, lifecycle, encryption, object lock, replication, website serving, HTML form
 * uploads, S3 Select, torrents: their sub-resources answer 501 NotImplemented, GETs included. The clients for which this
 * was looked at (aws cli, boto3, s3cmd, rclone: cp, ls, sync, mb, rb, rm, presign) do not depend on any of them.
 *
 * ## Quirks that shape the code
 *
 * - botocore asks for encoding-type=url by itself and decodes every listing, but of ListObjects (v1) not `Prefix`: there it
 *   is sent unencoded (list-objects.ts).
 * - botocore sends `Expect: 100-continue` with every upload, and reads an early error only if it comes instead of the 100.
 * - botocore frames uploads as aws-chunked with a checksum trailer over TLS, and sends a plain signed body over HTTP.
 * - The AWS SDKs send `x-id=PutObject` as a parameter; it selects nothing.
 * - s3cmd reads `?location` before it does anything else, and takes an empty LocationConstraint for us-east-1.
 * - Re-creating one's own bucket succeeds in us-east-1 and is a conflict everywhere else, as on AWS.
 * - A multi-range GET is answered with the whole object, as on AWS.
 * - User metadata may come as UTF-8, and goes back as ISO-8859-1 or RFC 2047 words (object-attributes.ts).
 * - A 404 that would tell an outsider that a key does not exist is a 403 unless he may list the bucket (missing-key.ts).
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../../common/clock.ts'
import type { Limits } from '../../common/limits.ts'
import type { AccessControl } from '../../store/access.ts'
import type { Store } from '../../store/doors.ts'
import type { RawRequest } from '../http/auth/authenticator.ts'
import type { Authenticated, Exchange, HttpHandler } from '../http/types.ts'
import { Call, checkExpectedOwners, type Door, type Owner, type S3Log } from './call.ts'
import { sendError } from './error-response.ts'
import { S3Error } from './errors.ts'
import { refuseUnbuiltFeatures } from './feature-headers.ts'
import { route } from './routes.ts'
import { parseTarget } from './target.ts'

export interface S3DoorOptions {
  readonly store: Store
  readonly access: AccessControl
  /** @throws AuthError */
  readonly authenticate: (request: RawRequest) => Authenticated
  /** What every door is given; this one reads no time, since all the times it shows come from the store. */
  readonly clock: Clock
  readonly region: string
  /** Names under which `bucket.NAME` addresses a bucket, lower case. */
  readonly domains: readonly string[]
  readonly limits: Limits
  /** Display name of a user id; of an unknown one, the id itself. */
  readonly owner: (id: string) => Owner
  readonly log: S3Log
  /** Default 30 s. */
  readonly bodyIdleMsMax?: number
}

const BODY_IDLE_MS_MAX = 30_000

/** @throws S3Error NotImplemented for a level that this operation would not act on (see Operation.ack) */
function refuseUnmetAck(call: Call): void {
  const { ack } = call
  if (ack === 'persisted' || ack === 'replicated') throw new S3Error('NotImplemented')
}

export function createS3Door(options: S3DoorOptions): HttpHandler {
  const { store, access, region, limits, owner, log } = options
  const door: Door = {
    store,
    access,
    region,
    limits,
    owner,
    log,
    bodyIdleMsMax: options.bodyIdleMsMax ?? BODY_IDLE_MS_MAX,
  }
  /** What may make a key is refused before its body comes; what cannot may name keys that the mount made. */
  const making = { domains: options.domains, keyBytesMax: limits.keyBytesMax }
  const reading = { domains: options.domains, keyBytesMax: limits.addressedKeyBytesMax }

  /** Everything before the operation; synchronous, so that a cheap request costs no extra turn. */
  function admit(request: IncomingMessage, response: ServerResponse, exchange: Exchange): Call {
    const method = request.method ?? ''
    const rawTarget = request.url ?? ''
    const authenticated = options.authenticate({
      method,
      rawTarget,
      headers: request.headers,
      rawHeaders: request.rawHeaders,
      remoteAddress: request.socket.remoteAddress,
      tls: (request.socket as { encrypted?: boolean }).encrypted === true,
    })
    exchange.principalId = authenticated.principal.id
    const addressing = method === 'PUT' || method === 'POST' ? making : reading
    const target = parseTarget(rawTarget, authenticated.origin.host, addressing)
    return new Call({ door, request, response, exchange, target, authenticated })
  }

  async function dispatch(call: Call): Promise<void> {
    const operation = route(call.request.method ?? '', call.target, call.header('x-amz-copy-source'))
    call.exchange.operation = operation.name
    if (operation.features === true) refuseUnbuiltFeatures(call.headers)
    operation.access(call)
    if (!call.authorized) throw new S3Error('AccessDenied')
    const expected = call.headers['x-amz-expected-bucket-owner'] ?? call.headers['x-amz-source-expected-bucket-owner']
    if (expected !== undefined) await checkExpectedOwners(call)
    if (operation.ack !== true && operation.method !== 'GET' && operation.method !== 'HEAD') refuseUnmetAck(call)
    await operation.run(call)
  }

  return async (request, response, exchange) => {
    let call: Call | undefined
    try {
      call = admit(request, response, exchange)
      await dispatch(call)
    } catch (error) {
      sendError({ request, response, exchange, continued: call?.continued ?? false, target: call?.target, log }, error)
    }
  }
}
