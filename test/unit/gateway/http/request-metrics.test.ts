import { expect, it } from 'vitest'
import { RequestMetrics } from '../../../../src/gateway/http/request-metrics.ts'

it('puts latencies into buckets whose upper ends are inclusive', async () => {
  const metrics = new RequestMetrics(() => 1_500)
  for (const durationMs of [0, 0.25, 0.3, 60_000, 60_001]) {
    metrics.record({ door: 's3', operation: 'PutObject', status: 200, durationMs, bytesIn: 1, bytesOut: 0 })
  }
  const { resourceMetrics } = await metrics.collect()
  const histogram = resourceMetrics.scopeMetrics[0]?.metrics.find((metric) => metric.descriptor.unit === 's')
  const point = histogram?.dataPoints[0]
  expect(point?.startTime).toEqual([1, 500_000_000])
  const value = point?.value as { count: number; buckets: { counts: number[]; boundaries: number[] } }
  expect(value.count).toBe(5)
  expect(value.buckets.counts).toHaveLength(value.buckets.boundaries.length + 1)
  expect([
    value.buckets.counts[0],
    value.buckets.counts[1],
    value.buckets.counts.at(-2),
    value.buckets.counts.at(-1),
  ]).toEqual([2, 1, 1, 1])
})

it('is bounded: what could grow without end is a bug', () => {
  const metrics = new RequestMetrics()
  const record = (operation: string): void => {
    metrics.record({ door: 's3', operation, status: 200, durationMs: 1, bytesIn: 0, bytesOut: 0 })
  }
  expect(() => {
    for (let n = 0; n < 3_000; n++) record(`key-${n}`)
  }).toThrow('request metrics are bounded')
})

it('costs a request no more the more there were: far less than 100 us, where it is 1 us on a machine at rest', () => {
  const metrics = new RequestMetrics()
  const request = { door: 's3', operation: 'GetObject', status: 200, durationMs: 0.4, bytesIn: 0, bytesOut: 4096 }
  const round = (): number => {
    const started = performance.now()
    for (let n = 0; n < 100_000; n++) metrics.record(request)
    return ((performance.now() - started) * 1_000) / 100_000
  }
  expect(Math.min(...Array.from({ length: 5 }, round))).toBeLessThan(100)
})
