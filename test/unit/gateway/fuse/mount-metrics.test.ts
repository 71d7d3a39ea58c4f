import { expect, it } from 'vitest'
import { MountMetrics } from '../../../../src/gateway/fuse/mount-metrics.ts'
import { ERRNO } from '../../../../src/gateway/fuse/protocol/errno.ts'
import { OPCODES } from '../../../../src/gateway/fuse/protocol/opcodes.ts'

async function collected(metrics: MountMetrics): Promise<Record<string, unknown>> {
  const { resourceMetrics } = await metrics.collect()
  const all = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics)
  return Object.fromEntries(
    all.map(({ descriptor, dataPoints }) => [
      descriptor.name,
      dataPoints.map(({ attributes, value }) => ({ ...attributes, value })),
    ]),
  )
}

it('counts requests by operation, errors by errno, and notifications', async () => {
  const metrics = new MountMetrics()
  metrics.answered(OPCODES.LOOKUP, 0.1)
  metrics.answered(OPCODES.LOOKUP, 0.2)
  metrics.answered(OPCODES.READ, 1)
  metrics.failed(ERRNO.ENOENT)
  metrics.failed(511)
  metrics.notified()
  expect(await collected(metrics)).toMatchObject({
    tidegate_mount_requests: [
      { operation: 'LOOKUP', value: 2 },
      { operation: 'READ', value: 1 },
    ],
    tidegate_mount_errors: [
      { errno: 'ENOENT', value: 1 },
      { errno: 'OTHER', value: 1 },
    ],
    tidegate_mount_notifications: [{ value: 1 }],
  })
  expect(metrics.figures()).toEqual([
    ['mount_requests_lookup', 2],
    ['mount_requests_read', 1],
    ['mount_errors_enoent', 1],
    ['mount_errors_other', 1],
    ['mount_notifications', 1],
  ])
})

it('keeps one row for all operations that it does not know, so that rows stay few', async () => {
  const metrics = new MountMetrics()
  for (const opcode of [4000, 4001, 77]) metrics.answered(opcode, 1)
  expect(metrics.figures()[0]).toEqual(['mount_requests_unknown', 3])
  expect((await collected(metrics))['tidegate_mount_requests']).toHaveLength(1)
})

it.each([0, 0.001, 0.004, 0.0041, 0.016, 0.017, 1, 5.5, 60_000, 67_108.864, 67_109, 1e9])(
  'puts a latency of %d ms into the bucket whose end is the first that is not below',
  async (durationMs) => {
    const metrics = new MountMetrics()
    metrics.answered(OPCODES.GETATTR, durationMs)
    const found = (await collected(metrics))['tidegate_mount_request_duration_seconds'] as {
      value: { buckets: { boundaries: number[]; counts: number[] }; count: number; sum: number }
    }[]
    const { buckets, count, sum } = found[0]?.value ?? expect.fail('no row')
    const first = buckets.boundaries.findIndex((seconds) => Math.ceil(durationMs * 1000) <= Math.round(seconds * 1e6))
    expect(buckets.counts.indexOf(1)).toBe(first < 0 ? buckets.boundaries.length : first)
    expect([buckets.counts.length, count, sum]).toEqual([buckets.boundaries.length + 1, 1, durationMs / 1000])
  },
)
