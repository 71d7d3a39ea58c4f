/** An HTTP port with nothing on it but the token routes, over metadata in memory, and who may use it. */
import { runCli } from '../../src/cli/run.ts'
import { randomBytes } from 'node:crypto'
import { silentLogger, type Logger } from '../../src/common/logging.ts'
import { createTokensPlugin } from '../../src/gateway/admin/tokens.ts'
import { createAuthenticator } from '../../src/gateway/http/auth/authenticator.ts'
import { createPortAuthenticator } from '../../src/gateway/http/auth/port-authenticator.ts'
import { createHttpPort, type PortPlugin } from '../../src/gateway/http/port.ts'
import { RequestMetrics } from '../../src/gateway/http/request-metrics.ts'
import { createAccessControl } from '../../src/store/policy.ts'
import { createTokens } from '../../src/store/tokens.ts'
import { createUserDirectory, type UserConfig } from '../../src/store/users.ts'
import { fixture, type TestClock } from '../unit/meta/namespace/fixture.ts'
import type { Tokens } from '../../src/store/access.ts'

export const SECRET = 'a secret of everyone here'

export interface TokenPort {
  readonly url: string
  readonly clock: TestClock
  readonly tokens: Tokens
  readonly stop: () => Promise<void>
}

const own = {
  Version: '2012-10-17',
  Statement: { Effect: 'Allow', Action: 'tidegate:*Token*', Resource: '*' },
} as const

/** `alice` and `bob` may manage tokens, `carol` may use S3 only. */
const USERS: readonly UserConfig[] = [
  { name: 'alice', accessKey: 'alice', secretKey: SECRET, policies: ['readwrite', own] },
  { name: 'bob', accessKey: 'bob', secretKey: SECRET, policies: [own] },
  { name: 'carol', accessKey: 'carol', secretKey: SECRET, policies: ['readwrite'] },
]

export async function startTokenPort(
  options: { logger?: Logger; plugins?: readonly PortPlugin[] } = {},
): Promise<TokenPort> {
  const { namespace, clock, stop } = await fixture()
  const tokens = createTokens({ metadata: namespace, clock, randomBytes })
  const users = createUserDirectory({ root: { accessKey: 'root', secretKey: SECRET }, users: USERS })
  const trustedProxies: string[] = []
  const sigv4 = createAuthenticator({ users, clock, region: 'us-east-1', services: ['s3'], trustedProxies })
  const port = createHttpPort({
    name: 'http',
    host: '127.0.0.1',
    port: 0,
    logger: options.logger ?? silentLogger,
    metrics: new RequestMetrics(),
    accessLog: 'debug',
    ready: () => true,
    authenticate: createPortAuthenticator({ sigv4, users, tokens, trustedProxies }).authenticate,
    plugins: [...(options.plugins ?? []), createTokensPlugin({ tokens, access: createAccessControl(USERS, clock) })],
  })
  await port.start()
  return {
    url: port.url,
    clock,
    tokens,
    stop: async () => {
      await port.stop()
      await stop()
    },
  }
}

export interface CommandOutput {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a `tidegate` command as root against the port. */
export async function runAgainst(port: TokenPort, argv: readonly string[]): Promise<CommandOutput> {
  const written = { stdout: '', stderr: '' }
  const into = (stream: 'stdout' | 'stderr') => ({
    write: (text: string | Uint8Array) => {
      written[stream] += String(text)
    },
  })
  const code = await runCli({
    argv,
    env: { TIDEGATE_GATEWAY: port.url, AWS_ACCESS_KEY_ID: 'root', AWS_SECRET_ACCESS_KEY: SECRET },
    stdout: into('stdout'),
    stderr: into('stderr'),
    serve: () => Promise.reject(new Error('not to be served')),
  })
  return { code, ...written }
}
