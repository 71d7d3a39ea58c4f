/**
 * The value of `--remote`:
 *
 *   file:///DIR
 *   s3://BUCKET[/PREFIX][?endpoint=URL][&region=NAME][&style=path|host]
 *
 * Credentials never stand here, since a command line is seen by everybody on the machine: they come by the SDK's chain. A text that looks as if
 * it held some is refused and not repeated.
 */
import { fileURLToPath } from 'node:url'
import { ValueError } from './value-error.ts'

/** Where sealed segments end up. */
export type RemoteLocation =
  | {
      readonly kind: 'file'
      /** Absolute. */
      readonly directory: string
    }
  | {
      readonly kind: 's3'
      readonly bucket: string
      /** Without slashes at its ends; empty for the whole bucket. */
      readonly prefix: string
      /** An origin; undefined: AWS's own for the region. */
      readonly endpoint: string | undefined
      readonly region: string
      readonly style: 'path' | 'host'
    }

/** An external bucket that is attached: `s3://BUCKET[/PREFIX][?endpoint=URL][&region=NAME][&style=path|host][&profile=NAME]`. */
export interface AttachmentLocation {
  readonly bucket: string
  /** Without slashes at its ends; empty for the whole bucket. */
  readonly prefix: string
  readonly endpoint: string | undefined
  readonly region: string
  readonly style: 'path' | 'host'
  /** Of the files that AWS tools use; undefined: what the environment says. */
  readonly profile: string | undefined
}

const FORMS = 'file:///DIR or s3://BUCKET/PREFIX?endpoint=URL&region=NAME'
const PARAMETERS: readonly string[] = ['endpoint', 'region', 'style']
const ATTACHMENT_FORM = 's3://BUCKET/PREFIX?endpoint=URL&region=NAME&profile=NAME'
const ATTACHMENT_PARAMETERS: readonly string[] = [...PARAMETERS, 'profile']
const STYLES = ['path', 'host'] as const
const REGION_DEFAULT = 'us-east-1'
const PREFIX_LENGTH_MAX = 512
const S3_URL = /^s3:\/\/(?<authority>[^/?#]*)(?<path>\/[^?#]*)?(?:\?(?<query>[^#]*))?$/

export function parseRemote(text: string): RemoteLocation {
  if (text.startsWith('s3:')) {
    const { place, path } = parseS3(text, FORMS, PARAMETERS)
    return { kind: 's3', ...place, prefix: parsePrefix(path) }
  }
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'file:' || url.host !== '' || url.search !== '' || url.hash !== '') {
    throw new ValueError(FORMS, { mayHoldSecret: text.includes('@') })
  }
  return { kind: 'file', directory: fileURLToPath(url) }
}

/** What an attachment's record says of where it is. @throws ValueError */
export function parseAttachmentUrl(text: string): AttachmentLocation {
  const { place, path, parameters } = parseS3(text, ATTACHMENT_FORM, ATTACHMENT_PARAMETERS)
  const profile = parameters.get('profile')
  if (profile !== undefined && !/^[\w.@+/-]{1,128}$/.test(profile)) {
    throw new ValueError('one whose profile is a name of the files that AWS tools use')
  }
  return { ...place, prefix: parseKeyPrefix(path), profile }
}

function parseS3(
  text: string,
  form: string,
  known: readonly string[],
): {
  readonly place: Omit<AttachmentLocation, 'prefix' | 'profile'>
  readonly path: string
  readonly parameters: ReadonlyMap<string, string>
} {
  const { authority = '', path = '', query = '' } = S3_URL.exec(text)?.groups ?? {}
  if (authority.includes('@')) {
    throw new ValueError(
      'one without a user name: credentials come from the environment or the files that AWS tools use',
      {
        mayHoldSecret: true,
      },
    )
  }
  const parameters = parseParameters(query, known)
  if (authority === '') throw new ValueError(form)
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$/.test(authority)) {
    throw new ValueError(`${form}: ${authority} is no bucket name; an address goes into endpoint=URL`)
  }
  const endpoint = parameters.get('endpoint')
  const place = {
    bucket: authority,
    endpoint: endpoint === undefined ? undefined : parseEndpoint(endpoint),
    region: parseRegion(parameters.get('region') ?? REGION_DEFAULT),
    style: parseStyle(parameters.get('style') ?? (endpoint === undefined ? 'host' : 'path')),
  }
  return { place, path, parameters }
}

function parseParameters(query: string, known: readonly string[]): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(query)) {
    if (!known.includes(name)) {
      // accessKey=, secret=, X-Amz-Security-Token=, ...: the name is shown, what it says is not.
      const shown = /^[A-Za-z-]{1,40}$/.test(name) ? name : 'what it has'
      throw new ValueError(`one with these parameters only: ${known.join(', ')}, and not ${shown}`, {
        mayHoldSecret: true,
      })
    }
    if (parameters.has(name)) throw new ValueError(`one that gives ${name} once`)
    parameters.set(name, value)
  }
  return parameters
}

function parsePrefix(path: string): string {
  const prefix = decoded(path).replace(/^\/|\/$/g, '')
  if (prefix === '') return ''
  const components = prefix.split('/')
  const isUsable =
    prefix.length <= PREFIX_LENGTH_MAX &&
    /^[A-Za-z0-9!_.*'()=/-]+$/.test(prefix) &&
    components.every((component) => component !== '' && component !== '.' && component !== '..')
  if (!isUsable) {
    throw new ValueError(
      `one with a prefix of at most ${PREFIX_LENGTH_MAX} letters, digits and !_.*'()=- between single slashes`,
    )
  }
  return prefix
}

/** Somebody else's keys: any text, in folders that have names. */
function parseKeyPrefix(path: string): string {
  const prefix = decoded(path).replace(/^\/|\/$/g, '')
  const components = prefix.split('/')
  const isUsable = components.every((component) => component !== '' && component !== '.' && component !== '..')
  if (prefix !== '' && (!isUsable || Buffer.byteLength(prefix) > PREFIX_LENGTH_MAX)) {
    throw new ValueError(`one with a prefix of at most ${PREFIX_LENGTH_MAX} bytes, of names between single slashes`)
  }
  return prefix
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    throw new ValueError('one with a prefix whose % signs are followed by two hex digits')
  }
}

function parseEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url !== undefined && (url.username !== '' || url.password !== '')) {
    throw new ValueError('one whose endpoint has no user name in it', { mayHoldSecret: true })
  }
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new ValueError('one whose endpoint begins with http:// or https:// (written as it is, or %-encoded)')
  }
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw new ValueError('one whose endpoint has no path, such as https://s3.example.com')
  }
  return url.origin
}

function parseRegion(text: string): string {
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(text)) throw new ValueError('one whose region is a name such as us-east-1')
  return text
}

function parseStyle(text: string): 'path' | 'host' {
  const style = STYLES.find((one) => one === text)
  if (style === undefined) throw new ValueError(`one whose style is ${STYLES.join(' or ')}`)
  return style
}
