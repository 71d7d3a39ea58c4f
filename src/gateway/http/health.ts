/** Answers of the health paths, which are the same on every port: no credentials, no body, nothing about the inside. */
export type HealthCheck = 'alive' | 'ready'

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
