/**
 * Requests of the mounts by operation with their latencies, errors by errno, and notifications. Sums are kept in plain numbers, since a
 * request of the mount takes microseconds, and handed to OpenTelemetry as a `MetricProducer` when somebody collects. All
 * mounts of a gateway count into one of these.
 *
 * Buckets of latency are powers of four of a microsecond, found without a search.
 */
import { AggregationTemporality, DataPointType } from '@opentelemetry/sdk-metrics'
import { emptyResource } from '@opentelemetry/resources'
import { ValueType } from '@opentelemetry/api'
import type { HrTime } from '@opentelemetry/api'
import type { CollectionResult, DataPoint, Histogram, MetricData, MetricProducer } from '@opentelemetry/sdk-metrics'
import { ERRNO } from './protocol/errno.ts'
import { operationNameOf } from './protocol/opcodes.ts'

/** 4 us to 4^13 us, which are 67 s: longer than a request may take. One more bucket follows without an end. */
const BOUNDARIES_S: readonly number[] = Array.from({ length: 13 }, (_, power) => 4 ** (power + 1) / 1e6)

interface Row {
  readonly operation: string
  readonly buckets: number[]
  count: number
  durationMsSum: number
}

export class MountMetrics implements MetricProducer {
  /** By opcode, of which there are few and small; all that are unknown share the row 0. */
  readonly #rows: (Row | undefined)[] = []
  readonly #errors = new Map<number, number>()
  readonly #startTime: HrTime
  readonly #nowMs: () => number
  #notifications = 0

  constructor(nowMs: () => number = Date.now) {
    this.#nowMs = nowMs
    this.#startTime = hrTime(nowMs())
  }

  answered(opcode: number, durationMs: number): void {
    const row = this.#rows[opcode] ?? this.#row(opcode)
    row.count += 1
    row.durationMsSum += durationMs
    const bucket = bucketOf(durationMs * 1_000)
    row.buckets[bucket] = (row.buckets[bucket] as number) + 1
  }

  failed(errno: number): void {
    this.#errors.set(errno, (this.#errors.get(errno) ?? 0) + 1)
  }

  notified(): void {
    this.#notifications += 1
  }

  /** For people: names without the prefix of the metrics. */
  figures(): readonly (readonly [name: string, value: number])[] {
    return [
      ...this.#known().map(({ operation, count }) => [`mount_requests_${operation.toLowerCase()}`, count] as const),
      ...[...this.#errors].map(([errno, count]) => [`mount_errors_${nameOf(errno).toLowerCase()}`, count] as const),
      ['mount_notifications', this.#notifications],
    ]
  }

  collect(): Promise<CollectionResult> {
    const times = { startTime: this.#startTime, endTime: hrTime(this.#nowMs()) }
    const rows = this.#known()
    const metrics: MetricData[] = [
      counter(
        'tidegate_mount_requests',
        'Requests of the kernel that were served',
        rows.map(({ operation, count }) => ({ ...times, attributes: { operation }, value: count })),
      ),
      counter(
        'tidegate_mount_errors',
        'Requests of the kernel that were answered with an error',
        [...this.#errors].map(([errno, value]) => ({ ...times, attributes: { errno: nameOf(errno) }, value })),
      ),
      counter('tidegate_mount_notifications', 'Changes that the kernel was told of', [
        { ...times, attributes: {}, value: this.#notifications },
      ]),
      {
        descriptor: {
          ...descriptor('tidegate_mount_request_duration_seconds', 'From reading a request to its answer'),
          unit: 's',
        },
        aggregationTemporality: AggregationTemporality.CUMULATIVE,
        dataPointType: DataPointType.HISTOGRAM,
        dataPoints: rows.map((row) => histogramPoint(row, times)),
      },
    ]
    const scopeMetrics = [{ scope: { name: 'tidegate' }, metrics }]
    return Promise.resolve({ resourceMetrics: { resource: emptyResource(), scopeMetrics }, errors: [] })
  }

  #known(): Row[] {
    return this.#rows.filter((row) => row !== undefined)
  }

  #row(opcode: number): Row {
    const operation = operationNameOf(opcode)
    const index = operation === 'UNKNOWN' ? 0 : opcode
    return (this.#rows[index] ??= {
      operation,
      buckets: Array.from({ length: BOUNDARIES_S.length + 1 }, () => 0),
      count: 0,
      durationMsSum: 0,
    })
  }
}

/** Of the least power of four that is not below. */
function bucketOf(durationUs: number): number {
  const power = 32 - Math.clz32(Math.max(0, Math.ceil(durationUs) - 1))
  return Math.min(BOUNDARIES_S.length, Math.max(0, Math.ceil(power / 2) - 1))
}

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(ERRNO).map(([name, number]) => [number, name]))

function nameOf(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? 'OTHER'
}

function histogramPoint(row: Row, times: { startTime: HrTime; endTime: HrTime }): DataPoint<Histogram> {
  const buckets = { boundaries: [...BOUNDARIES_S], counts: [...row.buckets] }
  const value = { buckets, count: row.count, sum: row.durationMsSum / 1_000 }
  return { ...times, attributes: { operation: row.operation }, value }
}

function counter(name: string, description: string, dataPoints: DataPoint<number>[]): MetricData {
  return {
    descriptor: descriptor(name, description),
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
    dataPointType: DataPointType.SUM,
    isMonotonic: true,
    dataPoints,
  }
}

function descriptor(name: string, description: string): MetricData['descriptor'] {
  return { name, description, unit: '', valueType: ValueType.DOUBLE }
}

function hrTime(ms: number): HrTime {
  return [Math.trunc(ms / 1_000), Math.round((ms % 1_000) * 1e6)]
}
