import type { IncomingHttpHeaders } from 'node:http'
import type { AccessContext, ConditionKey } from '../../../store/access.ts'
import type { Authenticated, AuthenticationForm } from '../types.ts'

/**
 * What a request says that policy conditions may ask for. Every key that conditions know is here, but for those that
 * `authorize` fills in itself; a test holds the two lists together (C36).
 *
 * `query`: the decoded value of a query parameter, as the operation reads it.
 */
export function requestFacts(request: {
  readonly authenticated: Authenticated
  readonly headers: IncomingHttpHeaders
  readonly query: (name: string) => string | undefined
}): AccessContext {
  const { authenticated, headers, query } = request
  const { origin, form } = authenticated
  const header = (name: string): string | undefined => {
    const value = headers[name]
    return typeof value === 'string' ? value : undefined
  }
  return {
    'aws:referer': header('referer'),
    'aws:securetransport': origin.secure ? 'true' : 'false',
    'aws:sourceip': origin.address,
    'aws:useragent': header('user-agent'),
    's3:authtype': AUTH_TYPE[form],
    's3:delimiter': query('delimiter'),
    's3:max-keys': query('max-keys'),
    's3:prefix': query('prefix'),
    's3:signatureversion': SIGNATURE_VERSION[form],
    's3:versionid': query('versionId'),
    's3:x-amz-acl': header('x-amz-acl'),
    's3:x-amz-content-sha256': header('x-amz-content-sha256') ?? unsentPayloadClaim(authenticated),
    's3:x-amz-copy-source': header('x-amz-copy-source'),
    's3:x-amz-metadata-directive': header('x-amz-metadata-directive'),
    's3:x-amz-storage-class': header('x-amz-storage-class'),
  } satisfies Record<Exclude<ConditionKey, FilledByAuthorize>, string | undefined>
}

type FilledByAuthorize = 'aws:currenttime' | 'aws:epochtime' | 'aws:userid' | 'aws:username'

const AUTH_TYPE: Readonly<Record<AuthenticationForm, string | undefined>> = {
  anonymous: undefined,
  header: 'REST-HEADER',
  presigned: 'REST-QUERY-STRING',
  'presigned-v2': 'REST-QUERY-STRING',
  basic: undefined,
  bearer: undefined,
}

/** IAM's words; a rule that demands version 4 must see the other one. */
const SIGNATURE_VERSION: Readonly<Record<AuthenticationForm, string | undefined>> = {
  anonymous: undefined,
  header: 'AWS4-HMAC-SHA256',
  presigned: 'AWS4-HMAC-SHA256',
  'presigned-v2': 'AWS',
  basic: undefined,
  bearer: undefined,
}

/** What a presigned URL claims of its body without the header: a rule against unsigned payloads holds for it too. */
function unsentPayloadClaim({ form, payload }: Authenticated): string | undefined {
  if (form !== 'presigned' && form !== 'presigned-v2') return undefined
  return payload.kind === 'signed' ? payload.sha256 : 'UNSIGNED-PAYLOAD'
}
