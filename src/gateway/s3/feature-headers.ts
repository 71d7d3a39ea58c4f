/**
 * Headers that ask for something which is not built are refused with NotImplemented, never kept and ignored (C36): who
 * sends x-amz-server-side-encryption must not be left thinking that his bytes are encrypted.
 *
 * Accepted, because what they ask for is what happens anyway or cannot matter here:
 * - x-amz-acl with a canned ACL: treated as under AWS's bucket setting IgnorePublicAcls, that is, taken and without effect,
 *   so that uploads by tools which set one out of habit (s3cmd, rclone, the public test suite) work. Nothing is stored, and the
 *   outcome is only ever more private than what was asked: no ACL opens anything here. Explicit grants are refused;
 * - x-amz-object-ownership `BucketOwnerEnforced`: AWS's word for "no ACLs";
 * - x-amz-bypass-governance-retention: no object is ever locked, so there is nothing to bypass (boto3 clean-up code sends it);
 * - x-amz-request-payer: nobody is billed;
 * - x-amz-website-redirect-location: kept and returned, as AWS does on its REST endpoints;
 * - x-amz-bucket-object-lock-enabled `false`.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { S3Error } from './errors.ts'

const CANNED_ACLS = [
  'private',
  'public-read',
  'public-read-write',
  'authenticated-read',
  'aws-exec-read',
  'bucket-owner-read',
  'bucket-owner-full-control',
]

/** Header -> values that are fine; an empty list refuses every value. */
const REFUSED: ReadonlyMap<string, readonly string[]> = new Map([
  ['x-amz-acl', CANNED_ACLS],
  ['x-amz-object-ownership', ['BucketOwnerEnforced']],
  ['x-amz-bucket-object-lock-enabled', ['false', 'False']],
  ['x-amz-write-offset-bytes', []],
  ['x-amz-mfa', []],
  ['x-amz-optional-object-attributes', []],
  ['x-amz-rename-source', []],
])

const REFUSED_PREFIXES = [
  'x-amz-server-side-encryption',
  'x-amz-copy-source-server-side-encryption',
  'x-amz-object-lock-',
  'x-amz-grant-',
] as const

/** @throws S3Error NotImplemented */
export function refuseUnbuiltFeatures(headers: IncomingHttpHeaders): void {
  for (const name in headers) {
    if (!name.startsWith('x-amz-')) continue
    const accepted = REFUSED.get(name)
    const refused =
      accepted === undefined
        ? REFUSED_PREFIXES.some((prefix) => name.startsWith(prefix))
        : !accepted.includes(String(headers[name]))
    if (refused) throw notBuilt(name)
  }
}

function notBuilt(name: string): S3Error {
  return new S3Error('NotImplemented', 'A header you provided implies functionality that is not implemented', {
    Header: name,
  })
}
