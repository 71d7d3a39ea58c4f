/** The HTTP port with parts of the KV API over the fake store (or another one), and an authenticator that believes everything. */
import { DEFAULT_LIMITS, type Limits } from '../../../../src/common/limits.ts'
import { silentLogger } from '../../../../src/common/logging.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import type { RawRequest } from '../../../../src/gateway/http/auth/authenticator.ts'
import { createHttpPort, type PortAuthenticate, type PortPlugin } from '../../../../src/gateway/http/port.ts'
import { RequestMetrics, type RecordedRequest } from '../../../../src/gateway/http/request-metrics.ts'
import type { Authenticated, PayloadForm } from '../../../../src/gateway/http/types.ts'
import { createKvPlugin, type KvRoutes } from '../../../../src/gateway/kv/door.ts'
import { ANONYMOUS, type AccessControl, type Principal } from '../../../../src/store/access.ts'
import type { Store } from '../../../../src/store/doors.ts'
import { FakeStore } from '../../../support/fake-store.ts'

/** One question to `authorize`. */
export interface Asked {
  readonly principal: Principal
  readonly action: string
  readonly bucket: string | undefined
  readonly key: string | undefined
  readonly context: Readonly<Record<string, string | undefined>>
}

export interface KvHarness<Served extends Store = FakeStore> {
  readonly store: Served
  /** `http://127.0.0.1:PORT`. */
  readonly url: string
  readonly port: number
  /** Every authorisation asked for, in order. */
  readonly asked: Asked[]
  /** One for each request that ended. */
  readonly outcomes: RecordedRequest[]
  /** From now on these questions are answered with AccessDenied. */
  deny(rule: (asked: Asked) => boolean): void
  /** Begins to drain: whoever streams without end ends. */
  drain(): Promise<void>
  stop(): Promise<void>
}

export interface KvHarnessOptions<Served extends Store> {
  readonly store?: Served | undefined
  readonly limits?: Partial<Limits> | undefined
  readonly bodyIdleMsMax?: number | undefined
  readonly drainTimeoutMs?: number | undefined
  /** Default: see `authenticateByHeader`. */
  readonly authenticate?: PortAuthenticate | undefined
  /** Others than the KV API, registered before it. */
  readonly plugins?: readonly PortPlugin[] | undefined
}

export async function startKvHarness<Served extends Store = FakeStore>(
  parts: readonly KvRoutes[],
  options: KvHarnessOptions<Served> = {},
): Promise<KvHarness<Served>> {
  const store = options.store ?? (new FakeStore() as Store as Served)
  const asked: Asked[] = []
  let denied: (asked: Asked) => boolean = () => false
  const access: AccessControl = {
    authorize: (principal, action, { bucket, key }, context) => {
      const question = { principal, action, bucket, key, context }
      asked.push(question)
      if (denied(question)) throw new TidegateError('AccessDenied', action)
    },
  }
  const outcomes: RecordedRequest[] = []
  const kv = createKvPlugin(
    {
      store,
      access,
      region: 'us-east-1',
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      logger: silentLogger,
      bodyIdleMsMax: options.bodyIdleMsMax ?? 5000,
    },
    parts,
  )
  const port = createHttpPort({
    name: 'http',
    host: '127.0.0.1',
    port: 0,
    logger: silentLogger,
    metrics: new RecordingMetrics(outcomes),
    drainTimeoutMs: options.drainTimeoutMs ?? 1000,
    ready: () => true,
    authenticate: options.authenticate ?? authenticateByHeader,
    plugins: [...(options.plugins ?? []), kv],
  })
  await port.start()
  return {
    store,
    url: port.url,
    port: Number(new URL(port.url).port),
    asked,
    outcomes,
    deny: (rule) => {
      denied = rule
    },
    drain: () => port.drain(),
    stop: () => port.stop(),
  }
}

class RecordingMetrics extends RequestMetrics {
  readonly #outcomes: RecordedRequest[]

  constructor(outcomes: RecordedRequest[]) {
    super()
    this.#outcomes = outcomes
  }

  override record(outcome: RecordedRequest): void {
    this.#outcomes.push(outcome)
    super.record(outcome)
  }
}

/** The sender by x-test-user (`anonymous` for nobody; `alice` unless given), the payload form by x-amz-content-sha256. */
export function authenticateByHeader(raw: RawRequest): Authenticated {
  const user = String(raw.headers['x-test-user'] ?? 'alice')
  const trailers = String(raw.headers['x-amz-trailer'] ?? '')
  return {
    principal: user === 'anonymous' ? ANONYMOUS : { id: user, displayName: user, kind: 'user' },
    origin: { host: raw.headers.host ?? '', address: '192.0.2.7', secure: false },
    form: user === 'anonymous' ? 'anonymous' : raw.rawTarget.includes('X-Amz-Signature=') ? 'presigned' : 'header',
    payload: payloadForm(raw),
    trailers: trailers === '' ? [] : trailers.split(','),
  }
}

function payloadForm(raw: RawRequest): PayloadForm {
  const claim = String(raw.headers['x-amz-content-sha256'] ?? 'UNSIGNED-PAYLOAD')
  if (claim === 'STREAMING-UNSIGNED-PAYLOAD-TRAILER') {
    return { kind: 'chunked-unsigned-trailer', decodedLength: Number(raw.headers['x-amz-decoded-content-length']) }
  }
  return /^[0-9a-f]{64}$/.test(claim) ? { kind: 'signed', sha256: claim } : { kind: 'unsigned' }
}
