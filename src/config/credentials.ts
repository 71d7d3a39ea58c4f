/**
 * The root user's credentials: given in the environment, or made at the first start and kept in DATA/credentials
 * (mode 0600, JSON). What is given is never written down. Made ones are shown once, by the caller, on the terminal.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Secret } from '../common/secret.ts'
import { ConfigError } from './config-error.ts'
import { writeFileDurably } from './durable-file.ts'
import type { RootCredentials } from './parse.ts'

export interface RootUser extends RootCredentials {
  /** They were made just now: whoever starts the gateway has to be told. */
  readonly made: boolean
}

const ACCESS_KEY_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
const ACCESS_KEY_LENGTH = 20
const SECRET_BYTES = 30

/** @throws ConfigError when the file in the data directory cannot be read as credentials */
export async function rootUser(given: RootCredentials | undefined, dataDirectory: string): Promise<RootUser> {
  if (given !== undefined) return { ...given, made: false }
  const kept = keptCredentials(dataDirectory)
  if (kept !== undefined) return { ...kept, made: false }
  const accessKey = Array.from({ length: ACCESS_KEY_LENGTH }, () => ACCESS_KEY_LETTERS[randomInt(32)]).join('')
  const secretText = randomBytes(SECRET_BYTES).toString('base64url')
  await writeFileDurably(
    credentialsPath(dataDirectory),
    `${JSON.stringify({ accessKey, secretKey: secretText })}\n`,
    0o600,
  )
  return { accessKey, secretKey: new Secret(secretText), made: true }
}

export function credentialsPath(dataDirectory: string): string {
  return join(dataDirectory, 'credentials')
}

/** Those that a first start made; undefined when none has. They never change, so that whoever may read them need not be the gateway. @throws ConfigError */
export function keptCredentials(dataDirectory: string): RootCredentials | undefined {
  const path = credentialsPath(dataDirectory)
  let content: { accessKey?: unknown; secretKey?: unknown }
  try {
    content = JSON.parse(readFileSync(path, 'utf8')) as typeof content
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    // The parser's message quotes the text, which is a secret: it stays out.
    const reason = error instanceof SyntaxError ? 'it is not JSON' : (error as Error).message
    throw new ConfigError(`${path} cannot be read: ${reason}`)
  }
  const { accessKey, secretKey } = content
  if (typeof accessKey !== 'string' || typeof secretKey !== 'string' || accessKey === '' || secretKey === '') {
    throw new ConfigError(
      `${path} holds no accessKey and secretKey; put them back, or set TIDEGATE_ROOT_USER and TIDEGATE_ROOT_PASSWORD`,
    )
  }
  return { accessKey, secretKey: new Secret(secretKey) }
}
