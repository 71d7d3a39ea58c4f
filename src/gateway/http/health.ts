/**
 * Answers of the health paths, which are the same on every port: no credentials, nothing about the inside, and no body but a sentence on what is the
 * matter outside the process, if anything is.
 */
export type HealthCheck = 'alive' | 'ready'

/** What is the matter with what the gateway stands on. */
export interface Condition {
  /** A sentence for whoever asks, with no name or address in it. */
  readonly words: string
  /** It goes on with what it knows, as old as that may be; otherwise it is not ready. */
  readonly serves: boolean
}

/** On every answer while the gateway goes on with what it knows. */
export const STALE_HEADER = 'Tidegate-Stale'

interface HealthAnswer {
  readonly status: 200 | 503
  readonly text: string
}

export function healthAnswer(
  check: HealthCheck,
  { isServing, condition }: { isServing: boolean; condition: Condition | undefined },
): HealthAnswer {
  const well = check === 'alive' || (isServing && condition?.serves !== false)
  const words = check === 'ready' && isServing ? condition?.words : undefined
  return { status: well ? 200 : 503, text: words === undefined ? '' : `${words}\n` }
}

/** A bucket can be called neither `-` nor `minio`, so these shadow no object. The latter are what MinIO's probes ask for. */
const CHECK_BY_PATH: Readonly<Record<string, HealthCheck>> = {
  '/-/healthz': 'alive',
  '/-/readyz': 'ready',
  '/minio/health/live': 'alive',
  '/minio/health/ready': 'ready',
}

/** Which check a request asks for, if any: exactly these paths, by GET or HEAD. Costs two comparisons otherwise. */
export function healthCheckOf(method: string | undefined, url: string | undefined): HealthCheck | undefined {
  if (url === undefined || (!url.startsWith('/-/') && !url.startsWith('/minio/'))) return undefined
  if (method !== 'GET' && method !== 'HEAD') return undefined
  return Object.hasOwn(CHECK_BY_PATH, url) ? CHECK_BY_PATH[url] : undefined
}
