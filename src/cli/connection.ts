/**
 * How commands reach a running gateway: its HTTP port, and credentials from the environment or from files that it names. Flags never carry secrets, for
 * every user of a machine can read the arguments of its processes.
 */
import { readFileSync } from 'node:fs'
import { Secret } from '../common/secret.ts'
import { environmentText } from '../config/environment.ts'
import { UsageError } from './command.ts'
import type { CliContext } from './command.ts'
import type { ArgumentOptions } from './arguments.ts'

/** What such commands take; `json` only those that print records. */
export const CONNECTION_OPTIONS = {
  gateway: { type: 'string' },
  json: { type: 'boolean' },
} as const satisfies ArgumentOptions

export const CONNECTION_HELP = `--gateway URL  the gateway's HTTP port (TIDEGATE_GATEWAY, default http://127.0.0.1:9001)
--json         print JSON (everything but the bytes of a value)

Credentials come from the environment: TIDEGATE_TOKEN, or TIDEGATE_ROOT_USER and TIDEGATE_ROOT_PASSWORD, or
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Files that hold those of the root user are named by TIDEGATE_ROOT_USER_FILE
and TIDEGATE_ROOT_PASSWORD_FILE.
`

const DEFAULT_GATEWAY = 'http://127.0.0.1:9001'
const ANSWER_MS_MAX = 60_000
/** Of a problem document. */
const PROBLEM_BYTES_MAX = 64 * 1024

/** The gateway refused, or could not be reached. The message says all there is to say. */
export class GatewayError extends Error {
  /** Undefined when there was no answer. */
  readonly status: number | undefined
  /** The problem's stable code. */
  readonly code: string | undefined

  constructor(message: string, options: { status?: number; code?: string | undefined; cause?: unknown } = {}) {
    super(message, { cause: options.cause })
    this.name = 'GatewayError'
    this.status = options.status
    this.code = options.code
  }
}

export interface GatewayRequest {
  readonly method: string
  /** From the root, encoded: `/admin/v1/tokens`. */
  readonly path: string
  readonly json?: unknown
}

export interface Connection {
  /** Without a slash at its end. */
  readonly url: string
  /** What stands in the Authorization header. */
  readonly authorization: Secret
  /** The answer when its status is below 400. @throws GatewayError with the problem's detail */
  send(request: GatewayRequest): Promise<Response>
}

/** `values` as parsed with `CONNECTION_OPTIONS`. @throws UsageError when there is no URL to use, or no credentials, ConfigError when a file with them is of no use */
export function connect(values: { readonly gateway?: string | undefined }, env: CliContext['env']): Connection {
  const url = gatewayUrl(values.gateway ?? set(env, 'TIDEGATE_GATEWAY') ?? DEFAULT_GATEWAY)
  const authorization = credentials(env)
  return { url, authorization, send: (request) => send(url, authorization, request) }
}

function gatewayUrl(text: string): string {
  const url = URL.parse(text)
  const usable = url !== null && (url.protocol === 'http:' || url.protocol === 'https:')
  if (!usable || url.search !== '' || url.hash !== '' || url.username !== '' || url.password !== '') {
    throw new UsageError('the gateway is not of the form http[s]://HOST[:PORT]')
  }
  return url.href.replace(/\/+$/, '')
}

/** An empty variable counts as unset, as in the configuration. */
function set(env: CliContext['env'], name: string): string | undefined {
  const value = env[name]
  return value === '' ? undefined : value
}

function credentials(env: CliContext['env']): Secret {
  const token = set(env, 'TIDEGATE_TOKEN')
  if (token !== undefined) {
    if (!/^[\x21-\x7e]+$/.test(token)) throw new UsageError('TIDEGATE_TOKEN holds what no token holds')
    return new Secret(`Bearer ${token}`)
  }
  const keys = rootKeys(env) ?? awsKeys(env)
  if (keys !== undefined) return new Secret(`Basic ${Buffer.from(keys.join(':')).toString('base64')}`)
  throw new UsageError(
    'no credentials: set TIDEGATE_TOKEN, or TIDEGATE_ROOT_USER and TIDEGATE_ROOT_PASSWORD, or AWS_ACCESS_KEY_ID and ' +
      'AWS_SECRET_ACCESS_KEY',
  )
}

/** As `serve` reads them, so that a command in a gateway's container has what the gateway has. */
function rootKeys(env: CliContext['env']): KeyPair | undefined {
  const input = { env, readFile: (path: string) => readFileSync(path, 'utf8') }
  const texts = [environmentText('rootUser', input)?.text, environmentText('rootPassword', input)?.text] as const
  return keyPair('TIDEGATE_ROOT_USER and TIDEGATE_ROOT_PASSWORD', texts)
}

function awsKeys(env: CliContext['env']): KeyPair | undefined {
  const texts = [set(env, 'AWS_ACCESS_KEY_ID'), set(env, 'AWS_SECRET_ACCESS_KEY')] as const
  return keyPair('AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY', texts)
}

type KeyPair = readonly [accessKey: string, secretKey: string]

function keyPair(
  names: string,
  [accessKey, secretKey]: readonly [accessKey: string | undefined, secretKey: string | undefined],
): KeyPair | undefined {
  if (accessKey === undefined && secretKey === undefined) return undefined
  if (accessKey === undefined || secretKey === undefined) throw new UsageError(`of ${names} only one is set`)
  return [accessKey, secretKey]
}

async function send(url: string, authorization: Secret, { method, path, json }: GatewayRequest): Promise<Response> {
  const headers = new Headers({ authorization: authorization.reveal() })
  if (json !== undefined) headers.set('content-type', 'application/json')
  const body = json === undefined ? null : JSON.stringify(json)
  const signal = AbortSignal.timeout(ANSWER_MS_MAX)
  let response: Response
  try {
    response = await fetch(url + path, { method, headers, body, signal, redirect: 'error' })
  } catch (error) {
    throw new GatewayError(`cannot reach the gateway at ${url}: ${reason(error)}`, { cause: error })
  }
  if (response.status >= 400) throw await refusal(response)
  return response
}

/** `fetch` hides in the cause what happened. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { cause } = error
  if (!(cause instanceof Error)) return error.message
  const { code } = cause as NodeJS.ErrnoException
  return cause.message === '' ? (code ?? error.message) : cause.message
}

async function refusal(response: Response): Promise<GatewayError> {
  const { status, headers } = response
  const named = headers.get('x-tidegate-error') ?? undefined
  const text =
    Number(headers.get('content-length') ?? 0) > PROBLEM_BYTES_MAX ? '' : await response.text().catch(() => '')
  const problem = parseProblem(text)
  const detail = typeof problem?.['detail'] === 'string' ? problem['detail'] : `the gateway answered ${status}`
  const code = typeof problem?.['code'] === 'string' ? problem['code'] : named
  return new GatewayError(code === undefined ? detail : `${code}: ${detail}`, { status, code })
}

function parseProblem(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(text)
    return typeof parsed === 'object' && parsed !== null ? (parsed as Readonly<Record<string, unknown>>) : undefined
  } catch {
    return undefined
  }
}
