/** Bearer tokens in the Authorization header (RFC 6750, section 2.1). Never taken from the query or a form: those are logged. */
const BEARER = /^bearer +([A-Za-z0-9._~+/-]{1,256}=*)$/i

/** The token's text; undefined when what follows the scheme can be none. */
export function readBearer(authorization: string): string | undefined {
  return BEARER.exec(authorization)?.[1]
}
