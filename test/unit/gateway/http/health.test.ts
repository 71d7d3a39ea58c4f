import { expect, it } from 'vitest'
import { healthAnswer, healthCheckOf } from '../../../../src/gateway/http/health.ts'

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

const LOST = { words: 'quorum is lost', serves: false }
const STALE = { words: 'quorum is lost', serves: true }

it.each([
  ['alive', true, LOST, 200, ''],
  ['ready', true, undefined, 200, ''],
  ['ready', true, LOST, 503, 'quorum is lost\n'],
  ['ready', true, STALE, 200, 'quorum is lost\n'],
  ['ready', false, undefined, 503, ''],
  ['ready', false, STALE, 503, ''],
] as const)('%s, while it serves (%s) on %j, is answered with %s %j', (check, isServing, condition, status, text) => {
  expect(healthAnswer(check, { isServing, condition })).toEqual({ status, text })
})
