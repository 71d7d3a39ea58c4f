/**
 * One parser for each type of option value. A parser gets the text that the user wrote and returns the value, or throws
 * a `ValueError` that says what the text should have been; parse.ts adds which option it was and where it came from.
 */
import { isIP } from 'node:net'
import { LOG_LEVELS } from '../common/log-levels.ts'
import { ACK_LEVELS, type AckLevel } from '../common/model.ts'
import { Secret } from '../common/secret.ts'
import { parseMetadata, type MetadataLocation } from './metadata-location.ts'
import { parseRemote, type RemoteLocation } from './remote-location.ts'
import { ValueError } from './value-error.ts'

export { ValueError }

export interface Address {
  /** Without brackets. */
  readonly host: string
  readonly port: number
}

export interface NodeLabel {
  readonly name: string
  readonly value: string
}

const FABRIC_MODES = ['auto', 'verbs', 'tcp', 'off'] as const
export type FabricMode = (typeof FABRIC_MODES)[number]
const ACCESS_LOG_LEVELS = ['debug', 'info', 'off'] as const
const SWITCH_CHOICES = ['on', 'off'] as const

export interface ValueByType {
  readonly path: string
  readonly address: Address
  readonly hostname: string
  /** A name or an IP address, without brackets. */
  readonly host: string
  readonly fabric: FabricMode
  readonly origin: string
  readonly httpUrl: string
  readonly network: string
  readonly remote: RemoteLocation
  readonly metadata: MetadataLocation
  readonly clusterName: string
  readonly ack: AckLevel
  readonly bytes: number
  /** Milliseconds. */
  readonly duration: number
  readonly count: number
  /** A count that may be 0. */
  readonly weight: number
  readonly label: NodeLabel
  readonly switch: boolean
  readonly region: string
  readonly bucket: string
  readonly logLevel: (typeof LOG_LEVELS)[number]
  readonly accessLog: (typeof ACCESS_LOG_LEVELS)[number]
  readonly accessKey: string
  readonly secret: Secret
}

export type ValueType = keyof ValueByType

export const PARSERS: { readonly [T in ValueType]: (text: string) => ValueByType[T] } = {
  path: (text) => matching(text, /^[^\0]+$/, 'a path'),
  address: parseAddress,
  hostname: (text) =>
    matching(text.toLowerCase(), /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/, 'a domain name'),
  host: (text) => (isIP(text) > 0 ? text : matching(text, /^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$/, 'a host')),
  fabric: (text) => choice(text, FABRIC_MODES),
  origin: parseOrigin,
  httpUrl: (text) => parseHttpUrl(text).href.replace(/\/$/, ''),
  network: parseNetwork,
  remote: parseRemote,
  metadata: parseMetadata,
  clusterName: (text) =>
    matching(text, /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'a name of letters, digits and ._- (up to 63)'),
  ack: (text) => choice(text, ACK_LEVELS),
  bytes: parseBytes,
  duration: parseDuration,
  count: parseCount,
  weight: (text) => Number(matching(text, /^(0|[1-9]\d{0,3})$/, 'a whole number from 0')),
  label: parseLabel,
  switch: (text) => choice(text, SWITCH_CHOICES) === 'on',
  region: (text) => matching(text, /^[a-z0-9]+(-[a-z0-9]+)*$/, 'a region name such as us-east-1'),
  bucket: (text) => matching(text, /^(?!minio$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'a bucket name'),
  logLevel: (text) => choice(text, LOG_LEVELS),
  accessLog: (text) => choice(text, ACCESS_LOG_LEVELS),
  accessKey: (text) =>
    matching(text, /^[A-Za-z0-9._@+=-]{3,128}$/, 'an access key (3 to 128 letters, digits or ._@+=-)'),
  secret: (text) => new Secret(matching(text, /^[^\0\r\n]{8,256}$/, 'a secret of 8 to 256 characters')),
}

function matching(text: string, pattern: RegExp, expected: string): string {
  if (!pattern.test(text)) throw new ValueError(expected)
  return text
}

function choice<const T extends string>(text: string, choices: readonly T[]): T {
  const found = choices.find((one) => one === text)
  if (found === undefined) throw new ValueError(`one of ${choices.join(', ')}`)
  return found
}

function parseAddress(text: string): Address {
  const expected = 'HOST:PORT, such as 127.0.0.1:9000 or [::1]:9000'
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/\s]+)):(\d{1,5})$/.exec(text)
  if (match === null) throw new ValueError(expected)
  const [, bracketed, plain, portText] = match
  const host = bracketed ?? plain ?? ''
  const port = Number(portText)
  if (bracketed !== undefined && isIP(bracketed) !== 6) throw new ValueError(expected)
  if (port > 65_535) throw new ValueError('HOST:PORT with a port up to 65535')
  return { host, port }
}

function parseHttpUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new ValueError('a URL that begins with http:// or https://, without a user name in it')
  }
  return url
}

function parseOrigin(text: string): string {
  const url = parseHttpUrl(text)
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '')
    throw new ValueError('a URL without a path, such as https://s3.example.com')
  return url.origin
}

function parseNetwork(text: string): string {
  const [address = '', bits] = text.split('/', 2)
  const family = isIP(address)
  const bitsMax = family === 6 ? 128 : 32
  const bitsValid = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= bitsMax)
  if (family === 0 || !bitsValid || text.split('/').length > 2)
    throw new ValueError('an IP address, or a network such as 10.0.0.0/8')
  return text
}

const BYTES_BY_UNIT: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
  // As container runtimes write them.
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
}

function parseBytes(text: string): number {
  return Math.floor(amount(text, BYTES_BY_UNIT, 'a number of bytes, such as 512MiB or 4GB'))
}

const MS_BY_UNIT: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function parseDuration(text: string): number {
  return Math.round(amount(text, MS_BY_UNIT, 'a time with its unit, such as 500ms, 30s or 2m'))
}

function amount(text: string, factors: Readonly<Record<string, number>>, expected: string): number {
  const match = /^(\d{1,15}(?:\.\d{1,6})?) ?([a-z]*)$/.exec(text.toLowerCase())
  const unit = match?.[2] ?? ''
  const factor = Object.hasOwn(factors, unit) ? factors[unit] : undefined
  const value = Number(match?.[1]) * (factor ?? Number.NaN)
  if (!Number.isSafeInteger(Math.floor(value))) throw new ValueError(expected)
  return value
}

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new ValueError('a whole number from 1')
  return Number(text)
}

function parseLabel(text: string): NodeLabel {
  const match = /^([A-Za-z0-9][A-Za-z0-9._/-]{0,62})=([A-Za-z0-9._/-]{1,63})$/.exec(text)
  if (match === null) throw new ValueError('NAME=VALUE of letters, digits and ._/- (up to 63 each), such as zone=a')
  return { name: match[1] ?? '', value: match[2] ?? '' }
}
