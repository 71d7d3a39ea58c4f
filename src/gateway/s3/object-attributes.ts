/** What a client may set on an object, read from request headers. */
import type { ObjectAttributes } from '../../common/model.ts'
import { contentHeadersOf, userMetadataOf } from '../http/content-headers.ts'
import type { Call } from './call.ts'
import { S3Error } from './errors.ts'
import { parseTaggingHeader } from './tags.ts'

const META_PREFIX = 'x-amz-meta-'

/** Kept as a label: nothing is moved anywhere by it, and every class reads the same. */
const STORAGE_CLASSES: ReadonlySet<string> = new Set([
  'STANDARD',
  'REDUCED_REDUNDANCY',
  'STANDARD_IA',
  'ONEZONE_IA',
  'INTELLIGENT_TIERING',
  'GLACIER',
  'GLACIER_IR',
  'DEEP_ARCHIVE',
  'EXPRESS_ONEZONE',
])

/** @throws S3Error MetadataTooLarge, InvalidStorageClass, InvalidTag, InvalidArgument */
export function objectAttributes(call: Call): ObjectAttributes {
  const redirect = call.header('x-amz-website-redirect-location')
  return {
    headers: contentHeadersOf(call.headers),
    userMetadata: userMetadata(call),
    tags: parseTaggingHeader(call.header('x-amz-tagging'), call.door.limits.tagsMax),
    storageClass: storageClass(call.header('x-amz-storage-class')),
    ...(redirect === undefined ? {} : { websiteRedirect: redirectLocation(redirect) }),
  }
}

function userMetadata(call: Call): Readonly<Record<string, string>> {
  const { metadata, bytes } = userMetadataOf(call.headers, META_PREFIX)
  const bytesMax = call.door.limits.userMetadataBytesMax
  if (bytes > bytesMax) throw new S3Error('MetadataTooLarge', undefined, { Size: bytes, MaxSizeAllowed: bytesMax })
  return metadata
}

function storageClass(value: string | undefined): string {
  if (value === undefined) return 'STANDARD'
  if (!STORAGE_CLASSES.has(value)) throw new S3Error('InvalidStorageClass', undefined, { StorageClassRequested: value })
  return value
}

function redirectLocation(value: string): string {
  if (value.length > 2048 || !/^(?:\/|https?:\/\/)/.test(value)) {
    throw new S3Error(
      'InvalidArgument',
      "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
      { ArgumentName: 'x-amz-website-redirect-location', ArgumentValue: value },
    )
  }
  return value
}
