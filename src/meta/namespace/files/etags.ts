/**
 * C29: content that did not come from one PUT or Complete has an opaque ETag, new whenever the content is: 16 hex digits of
 * the inode, 16 of the revision that made the content, and `-1`, which no MD5 ends in.
 */
import type { InodeId, Revision } from '../../../common/ids.ts'

export function fileEtag(inode: InodeId, revision: Revision): string {
  return `${sixteenDigits(inode)}${sixteenDigits(revision)}-1`
}

function sixteenDigits(value: number): string {
  return value.toString(16).padStart(16, '0')
}
