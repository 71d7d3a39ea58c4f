import { expect, it } from 'vitest'
import { healthCheckOf } from '../../../../src/gateway/http/health.ts'

it.each([
  ['GET', '/-/healthz', 'alive'],
  ['HEAD', '/-/readyz', 'ready'],
  ['GET', '/minio/health/live', 'alive'],
  ['GET', '/minio/health/ready', 'ready'],
  ['PUT', '/-/healthz', undefined],
  ['GET', '/-/healthz/', undefined],
  ['GET', '/-/constructor', undefined],
  ['GET', '/-/', undefined],
  ['GET', '/minio/health', undefined],
  ['GET', '/bucket/-/healthz', undefined],
  ['GET', undefined, undefined],
])('%s %s asks for %s', (method, url, expected) => {
  expect(healthCheckOf(method, url)).toBe(expected)
})
