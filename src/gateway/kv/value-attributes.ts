/** Attributes of a value that comes in the body of a batch or transaction, where HTTP has not checked them. */
import { TidegateError } from '../../common/errors.ts'
import type { Limits } from '../../common/limits.ts'
import type { ObjectAttributes } from '../../common/model.ts'

/** What may stand in a header, as which S3 gives it back (RFC 9110, 5.5 and 5.6.2). */
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/
const CONTROL_CHARACTER = /\p{Cc}/u

export const CONTENT_TYPE_DEFAULT = 'application/octet-stream'

/** A header with more is one that few clients take. */
const CONTENT_TYPE_LENGTH_MAX = 1024

/** @throws InvalidArgument */
export function attributesOf(
  given: { contentType: string | undefined; metadata: Readonly<Record<string, string>> | undefined },
  limits: Limits,
): ObjectAttributes {
  const { contentType, metadata } = given
  if (contentType !== undefined && contentType.length > CONTENT_TYPE_LENGTH_MAX) {
    throw refused(`a content type of ${contentType.length} characters is longer than ${CONTENT_TYPE_LENGTH_MAX}`)
  }
  if (contentType !== undefined && !HEADER_VALUE.test(contentType)) {
    throw refused(`the content type ${JSON.stringify(contentType)} cannot be sent as a header`)
  }
  return {
    headers: contentType === undefined ? {} : { contentType },
    userMetadata: metadata === undefined ? {} : checkedMetadata(metadata, limits.userMetadataBytesMax),
    tags: {},
    storageClass: 'STANDARD',
  }
}

function checkedMetadata(metadata: Readonly<Record<string, string>>, bytesMax: number): Record<string, string> {
  let bytes = 0
  const checked = new Map<string, string>()
  for (const [given, value] of Object.entries(metadata)) {
    const name = given.toLowerCase()
    if (!HEADER_NAME.test(name)) throw refused(`the metadata name ${JSON.stringify(given)} cannot be sent as a header`)
    if (checked.has(name)) throw refused(`the metadata ${JSON.stringify(name)} is given more than once`)
    if (CONTROL_CHARACTER.test(value)) throw refused(`the metadata ${JSON.stringify(name)} holds a control character`)
    bytes += name.length + Buffer.byteLength(value)
    checked.set(name, value)
  }
  if (bytes > bytesMax) throw refused(`${bytes} bytes of metadata are more than ${bytesMax}`)
  return Object.fromEntries(checked)
}

function refused(message: string): TidegateError {
  return new TidegateError('InvalidArgument', message)
}
