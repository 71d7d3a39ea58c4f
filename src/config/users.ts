/**
 * The `users:` list of the configuration file: who may come in beside the root user, and with which policies.
 */
import { ConfigError } from './config-error.ts'
import { refuseKnownSecret } from './known-secrets.ts'
import { didYouMean } from './nearest.ts'
import { PARSERS, ValueError } from './values.ts'
import type { Secret } from '../common/secret.ts'

/** A policy by its name, or an IAM policy document as it stands in the file. */
export type PolicyReference = string | Readonly<Record<string, unknown>>

export interface UserConfig {
  readonly name: string
  readonly displayName: string
  /** Canonical user id, as S3 answers show it. */
  readonly id: string
  readonly email: string | undefined
  readonly accessKey: string
  readonly secretKey: Secret
  readonly policies: readonly PolicyReference[]
}

const FIELDS = ['name', 'displayName', 'id', 'email', 'accessKey', 'secretKey', 'secretKeyFile', 'policies'] as const
type Field = (typeof FIELDS)[number]

/** Ids of the principals that are always there (store/access.ts). */
const RESERVED_IDS: ReadonlySet<string> = new Set(['root', 'anonymous'])

/** `path` is the configuration file, for messages; `readFile` reads a user's `secretKeyFile`. */
export function parseUsers(value: unknown, path: string, readFile: (path: string) => string): UserConfig[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new ConfigError(`users in ${path} is not a list`)
  const users = value.map((entry: unknown, index) => parseUser(entry, `users[${index}] in ${path}`, readFile))
  for (const field of ['name', 'id', 'accessKey'] as const) {
    const seen = new Set<string>()
    for (const user of users) {
      if (seen.has(user[field])) throw new ConfigError(`users in ${path}: two have the ${field} ${user[field]}`)
      seen.add(user[field])
    }
  }
  return users
}

function parseUser(entry: unknown, where: string, readFile: (path: string) => string): UserConfig {
  if (!isRecord(entry)) throw new ConfigError(`${where} is not a mapping with name, accessKey, secretKey and policies`)
  const unknown = Object.keys(entry).find((key) => !(FIELDS as readonly string[]).includes(key))
  if (unknown !== undefined) throw new ConfigError(`${where}: unknown key ${unknown}${didYouMean(unknown, FIELDS)}`)

  const name = requiredText(entry, 'name', where)
  const id = optionalText(entry, 'id', where) ?? name
  if (RESERVED_IDS.has(id)) throw new ConfigError(`${where}: the id ${id} is reserved`)
  const secretKey = parseSecret(entry, where, readFile)
  refuseKnownSecret(secretKey, `${where}: secretKey`)
  return {
    name,
    id,
    displayName: optionalText(entry, 'displayName', where) ?? name,
    email: optionalText(entry, 'email', where),
    accessKey: checked('accessKey', requiredText(entry, 'accessKey', where), where),
    secretKey,
    policies: parsePolicies(entry['policies'], where),
  }
}

function parseSecret(entry: Record<string, unknown>, where: string, readFile: (path: string) => string): Secret {
  const text = optionalText(entry, 'secretKey', where)
  const file = optionalText(entry, 'secretKeyFile', where)
  if ((text === undefined) === (file === undefined)) {
    throw new ConfigError(`${where}: give either secretKey or secretKeyFile`)
  }
  if (file === undefined) return checked('secret', text ?? '', where)
  try {
    return checked('secret', readFile(file).replace(/\r?\n$/, ''), `${where}: secretKeyFile ${file}`)
  } catch (error) {
    if (error instanceof ConfigError) throw error
    throw new ConfigError(`${where}: cannot read secretKeyFile ${file}: ${(error as Error).message}`, { cause: error })
  }
}

function parsePolicies(value: unknown, where: string): PolicyReference[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new ConfigError(`${where}: policies is not a list`)
  return value.map((policy: unknown) => {
    if (typeof policy === 'string' || isRecord(policy)) return policy
    throw new ConfigError(`${where}: a policy is neither a name nor a document`)
  })
}

function checked(type: 'accessKey', text: string, where: string): string
function checked(type: 'secret', text: string, where: string): Secret
function checked(type: 'accessKey' | 'secret', text: string, where: string): string | Secret {
  try {
    return PARSERS[type](text)
  } catch (error) {
    if (!(error instanceof ValueError)) throw error
    // The value is not shown: it may be a secret in the wrong place.
    throw new ConfigError(`${where}: ${type === 'secret' ? 'the secret key' : type} is not ${error.message}`, {
      cause: error,
    })
  }
}

function optionalText(entry: Record<string, unknown>, field: Field, where: string): string | undefined {
  const value = entry[field]
  if (value === undefined || value === null) return undefined
  // A YAML number such as 007 has lost digits by now, so it is refused rather than turned into text.
  if (typeof value !== 'string' || value === '')
    throw new ConfigError(`${where}: ${field} is not a text (put it in quotes)`)
  return value
}

function requiredText(entry: Record<string, unknown>, field: Field, where: string): string {
  const value = optionalText(entry, field, where)
  if (value === undefined) throw new ConfigError(`${where}: ${field} is missing`)
  return value
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
