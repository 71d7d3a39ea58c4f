/**
 * Metrics as Prometheus reads them: text exposition format 0.0.4
 * (prometheus.io/docs/instrumenting/exposition_formats). Sums that only grow end in `_total`; a histogram becomes
 * cumulative `_bucket` series, `_sum` and `_count`; gauges and sums that also shrink are gauges.
 */
import { DataPointType } from '@opentelemetry/sdk-metrics'
import { unreachable } from '../../common/assert.ts'
import type { DataPoint, Histogram, MetricData, ResourceMetrics } from '@opentelemetry/sdk-metrics'

export const PROMETHEUS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

type Labels = readonly (readonly [name: string, value: string])[]

export function prometheusText(resourceMetrics: ResourceMetrics): string {
  const metrics = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics)
  return metrics.map(metricText).join('')
}

function metricText(metric: MetricData): string {
  const name = metric.descriptor.name.replaceAll(/[^a-zA-Z0-9_:]/g, '_')
  switch (metric.dataPointType) {
    case DataPointType.SUM: {
      const series = metric.isMonotonic && !name.endsWith('_total') ? `${name}_total` : name
      return head(series, metric, metric.isMonotonic ? 'counter' : 'gauge') + points(series, metric.dataPoints)
    }
    case DataPointType.GAUGE:
      return head(name, metric, 'gauge') + points(name, metric.dataPoints)
    case DataPointType.HISTOGRAM:
      return head(name, metric, 'histogram') + metric.dataPoints.map((point) => histogramText(name, point)).join('')
    case DataPointType.EXPONENTIAL_HISTOGRAM:
      // The text format has no form for them, and nothing here asks the SDK for one.
      return ''
    default:
      return unreachable(metric, 'kind of metric')
  }
}

function head(name: string, metric: MetricData, type: string): string {
  const help = metric.descriptor.description.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`
}

function points(name: string, dataPoints: readonly DataPoint<number>[]): string {
  return dataPoints.map((point) => sample(name, labelsOf(point), point.value)).join('')
}

function histogramText(name: string, point: DataPoint<Histogram>): string {
  const { buckets, count, sum } = point.value
  const labels = labelsOf(point)
  let cumulative = 0
  const lines = buckets.boundaries.map((boundary, index) => {
    cumulative += buckets.counts[index] ?? 0
    return sample(`${name}_bucket`, [...labels, ['le', String(boundary)]], cumulative)
  })
  lines.push(sample(`${name}_bucket`, [...labels, ['le', '+Inf']], count))
  lines.push(sample(`${name}_sum`, labels, sum ?? 0), sample(`${name}_count`, labels, count))
  return lines.join('')
}

function labelsOf(point: DataPoint<unknown>): Labels {
  return Object.entries(point.attributes).map(([name, value]) => [name.replaceAll(/\W/g, '_'), String(value)] as const)
}

function sample(name: string, labels: Labels, value: number): string {
  const list = labels.map(([label, text]) => `${label}="${escaped(text)}"`).join(',')
  return `${name}${list === '' ? '' : `{${list}}`} ${number(value)}\n`
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function number(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (Number.isFinite(value)) return String(value)
  return value > 0 ? '+Inf' : '-Inf'
}
