/**
 * The value of `--meta`:
 *
 *   etcd://HOST:PORT[,HOST:PORT...][/PREFIX]      etcds://... for TLS
 *
 * A user and a password never stand here, since a command line is seen by everybody on the machine.
 */
import { isIP } from 'node:net'
import { ValueError } from './value-error.ts'

/** Where metadata lie that several gateways share. */
export interface MetadataLocation {
  /** `http://host:port` or `https://host:port`, the preferred first. */
  readonly endpoints: readonly string[]
  readonly tls: boolean
  /** Of all keys, with a slash at both ends. */
  readonly prefix: string
}

const FORM = 'etcd://HOST:PORT,HOST:PORT/PREFIX, or the same with etcds://'
/** Where nothing else is said. */
export const PREFIX_DEFAULT = '/tidegate/'
const MEMBERS_MAX = 16
const URL_PATTERN = /^(?<scheme>etcds?):\/\/(?<members>[^/?#]+)(?<path>\/[^?#]*)?$/
const MEMBER_PATTERN = /^(?:\[(?<bracketed>[0-9a-fA-F:.]+)\]|(?<plain>[A-Za-z0-9._-]+)):(?<port>[1-9]\d{0,4})$/

/** @throws ValueError */
export function parseMetadata(text: string): MetadataLocation {
  if (text.includes('@')) {
    const expected = 'one without a user name: that goes into --meta-user, and the password into --meta-password-file'
    throw new ValueError(expected, { mayHoldSecret: true })
  }
  const { scheme, members, path = '' } = URL_PATTERN.exec(text)?.groups ?? {}
  if (scheme === undefined || members === undefined) throw new ValueError(FORM)
  const tls = scheme === 'etcds'
  const endpoints = members.split(',').map((member) => `${tls ? 'https' : 'http'}://${checkedMember(member)}`)
  if (endpoints.length > MEMBERS_MAX) throw new ValueError(`one of at most ${MEMBERS_MAX} members`)
  return { endpoints, tls, prefix: parsePrefix(path) }
}

function checkedMember(text: string): string {
  const { bracketed, port } = MEMBER_PATTERN.exec(text)?.groups ?? {}
  if (port === undefined || Number(port) > 65_535 || (bracketed !== undefined && isIP(bracketed) !== 6))
    throw new ValueError(`${FORM}: ${JSON.stringify(text)} is not HOST:PORT`)
  return text
}

function parsePrefix(path: string): string {
  const prefix = path.replace(/^\/|\/$/g, '')
  if (prefix === '') return PREFIX_DEFAULT
  const isUsable = prefix.length <= 200 && prefix.split('/').every((part) => /^[A-Za-z0-9._-]+$/.test(part))
  if (!isUsable) throw new ValueError('one with a prefix of at most 200 letters, digits and ._- between single slashes')
  return `/${prefix}/`
}
