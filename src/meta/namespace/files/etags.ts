/**
 * C29: content that did not come from one PUT or Complete has an opaque ETag, new whenever the content is: 16 hex digits of
 * the inode, 16 of the revision that made the content, and `-1`, which no MD5 ends in. Where that revision is not known before the commit, 16
 * random digits stand in its place, of which the first says so: no revision has it.
 */
import type { InodeId, Revision } from '../../../common/ids.ts'
import type { NamespaceContext } from '../context.ts'
import { REVISION_OF_ITS_COMMIT } from '../records-objects.ts'

/** Revisions are less than 2^53. */
const HIGHEST_BIT = 0x80

export function fileEtag(
  { fillRandom }: Pick<NamespaceContext, 'fillRandom'>,
  inode: InodeId,
  revision: Revision,
): string {
  const change = revision === REVISION_OF_ITS_COMMIT ? randomDigits(fillRandom) : sixteenDigits(revision)
  return `${sixteenDigits(inode)}${change}-1`
}

function sixteenDigits(value: number): string {
  return value.toString(16).padStart(16, '0')
}

function randomDigits(fillRandom: (bytes: Uint8Array) => void): string {
  const bytes = Buffer.alloc(8)
  fillRandom(bytes)
  bytes[0] = bytes.readUInt8(0) | HIGHEST_BIT
  return bytes.toString('hex')
}
