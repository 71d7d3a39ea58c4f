import { createBasicVerifier } from './basic.ts'
import { readBearer } from './bearer.ts'
import { refuseQueryCredentials } from './claims.ts'
import { AuthError } from './errors.ts'
import { viewHeaders } from './header-view.ts'
import { createOriginReader } from './origin.ts'
import { anonymousPayloadClaim, declaredTrailers, payloadForm } from './payload-form.ts'
import { parseTarget } from './request-target.ts'
import type { Principal, Tokens, UserDirectory } from '../../../store/access.ts'
import type { Authenticated, AuthenticationForm } from '../types.ts'
import type { Authenticator, RawRequest } from './authenticator.ts'
import type { HeaderView } from './header-view.ts'
import type { OriginOptions } from './origin.ts'

/**
 * The gate of the HTTP port, for every route that is not open. It reads the scheme of the one Authorization header and
 * hands the request to whoever verifies that form; identity and proof always come from the same header value, and nothing
 * falls through to another form when one fails (SECURITY-LESSONS 5.2.1 and 5.2.2):
 *
 *     Bearer            the token's text        store/tokens.ts, awaited
 *     Basic             access key and secret   basic.ts
 *     everything else   SigV4 in the header or the query, or nothing at all   authenticator.ts
 *
 * Credentials in the header and in the query at once are refused, and so is a second Authorization header. Presigned URLs of
 * signature version 2 are for old S3 clients: `sigv4` is made without them. A body under Bearer or Basic is framed as an anonymous one is:
 * no signature covers it, the connection has to.
 */
export interface PortAuthenticatorOptions extends OriginOptions {
  readonly sigv4: Authenticator
  readonly users: UserDirectory
  readonly tokens: Pick<Tokens, 'verify'>
}

export interface PortAuthenticator {
  /** Answers at once unless a token has to be looked up. @throws (or rejects with) AuthError */
  readonly authenticate: (request: RawRequest) => Authenticated | Promise<Authenticated>
}

const OWN_SCHEME = /^(?:(basic)|bearer)(?: |$)/i

export function createPortAuthenticator(options: PortAuthenticatorOptions): PortAuthenticator {
  const { sigv4, tokens } = options
  const basic = createBasicVerifier(options.users)
  const origins = createOriginReader(options)

  const passBearer = async (admit: Admit, authorization: string): Promise<Authenticated> => {
    const text = readBearer(authorization)
    const principal = text === undefined ? undefined : await tokens.verify(text)
    if (principal === undefined) {
      throw new AuthError('InvalidToken', 'The bearer token is malformed, unknown, revoked or expired.')
    }
    return admit(principal, 'bearer')
  }

  const passBasic = (admit: Admit, authorization: string): Authenticated => {
    const principal = basic.verify(authorization)
    if (principal === undefined) throw new AuthError('InvalidAccessKeyId', 'The access key or its secret is wrong.')
    return admit(principal, 'basic')
  }

  return {
    authenticate(request) {
      const scheme = OWN_SCHEME.exec(request.headers.authorization ?? '')
      if (scheme === null) {
        refuseOtherScheme(request.headers.authorization)
        return sigv4.authenticate(request)
      }
      const headers = viewHeaders(request.headers, request.rawHeaders)
      refuseQueryCredentials(parseTarget(request.rawTarget))
      const { hosts, address, secure } = origins.read({
        host: headers.get('host') ?? '',
        forwardedFor: headers.get('x-forwarded-for'),
        forwardedHost: headers.get('x-forwarded-host'),
        forwardedProto: headers.get('x-forwarded-proto'),
        remoteAddress: request.remoteAddress,
        tls: request.tls,
      })
      const origin = { host: hosts[0] ?? '', address, secure }
      const admit: Admit = (principal, form) => ({ principal, origin, form, ...unsignedBody(headers) })
      const authorization = headers.get('authorization') ?? ''
      return scheme[1] === undefined ? passBearer(admit, authorization) : passBasic(admit, authorization)
    },
  }
}

/** Whoever speaks another scheme is told which ones there are; 401, as for credentials that are wrong. */
function refuseOtherScheme(authorization: string | undefined): void {
  if (authorization === undefined || /^(?:AWS|$)/.test(authorization)) return
  // The value itself may be a password, so it is not repeated.
  throw new AuthError('InvalidToken', 'The Authorization scheme is none of Bearer, Basic and AWS4-HMAC-SHA256.')
}

type Admit = (principal: Principal, form: AuthenticationForm) => Authenticated

function unsignedBody(headers: HeaderView): Pick<Authenticated, 'payload' | 'trailers'> {
  const payload = payloadForm(anonymousPayloadClaim(headers), headers, undefined)
  return { payload, trailers: declaredTrailers(headers, payload) }
}
