/**
 * OpenTelemetry, set up once, before anything else is made: instruments asked of the API earlier would count into nothing.
 *
 * Parts of the gateway use `@opentelemetry/api` only (`metrics.getMeter('tidegate')`). An instrument of the SDK costs a
 * microsecond or two for each recorded value, so hot paths keep plain numbers and show them through observable
 * instruments, which are read when somebody collects, or through a `MetricProducer` (see RequestMetrics).
 *
 * Metrics can be pulled (`collect`, behind /metrics) and, with a collector configured, are pushed by OTLP too; traces are
 * pushed or do not exist. The exporters are loaded only when they are wanted: they take several MiB.
 */
import { DiagLogLevel, diag, metrics, trace } from '@opentelemetry/api'
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources'
import { MeterProvider, MetricReader, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import { watchProcess } from './process-metrics.ts'
import type { Resource } from '@opentelemetry/resources'
import type { IMetricReader, MetricProducer, ResourceMetrics } from '@opentelemetry/sdk-metrics'
import type { Logger } from './logging.ts'

export interface TelemetryOptions {
  readonly version: string
  /** Base URL of an OTLP/HTTP collector. */
  readonly otlpEndpoint: string | undefined
  /** Sources of metrics that keep their own sums. */
  readonly producers: readonly MetricProducer[]
  readonly logger: Logger
}

export interface Telemetry {
  /** Spans go somewhere. */
  readonly tracing: boolean
  collect(): Promise<ResourceMetrics>
  /** Sends what is waiting, for at most a few seconds, and ends. */
  stop(): Promise<void>
}

const EXPORT_INTERVAL_MS = 15_000
const EXPORT_TIMEOUT_MS = 5_000
const STOP_MS_MAX = 3_000
/** Spans waiting to be sent; more are dropped. */
const SPANS_WAITING_MAX = 8_192

/** Collects when asked. */
class PullReader extends MetricReader {
  protected override onForceFlush(): Promise<void> {
    return Promise.resolve()
  }

  protected override onShutdown(): Promise<void> {
    return Promise.resolve()
  }
}

export async function startTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  const { otlpEndpoint, logger } = options
  const metricProducers = [...options.producers]
  const resource = defaultResource().merge(
    resourceFromAttributes({ 'service.name': 'tidegate', 'service.version': options.version }),
  )
  diag.setLogger(diagnosticsTo(logger), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true })
  const pull = new PullReader({ metricProducers })
  const readers: IMetricReader[] = [pull]
  if (otlpEndpoint !== undefined) readers.push(await pushReader(otlpEndpoint, metricProducers))
  const meters = new MeterProvider({ resource, readers })
  metrics.setGlobalMeterProvider(meters)
  const unwatch = watchProcess(meters.getMeter('tidegate'), options.version)
  const tracers = otlpEndpoint === undefined ? undefined : await startTracing(otlpEndpoint, resource)

  return {
    tracing: tracers !== undefined,
    async collect() {
      const { resourceMetrics, errors } = await pull.collect({ timeoutMillis: EXPORT_TIMEOUT_MS })
      for (const error of errors) logger.warn({ error }, 'a metric could not be read')
      return resourceMetrics
    },
    async stop() {
      unwatch()
      const ended = Promise.allSettled([meters.shutdown({ timeoutMillis: STOP_MS_MAX }), tracers?.shutdown()])
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, STOP_MS_MAX).unref())])
      metrics.disable()
      trace.disable()
      diag.disable()
    },
  }
}

async function pushReader(endpoint: string, metricProducers: MetricProducer[]): Promise<IMetricReader> {
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-http')
  return new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter({ url: `${endpoint}/v1/metrics`, timeoutMillis: EXPORT_TIMEOUT_MS }),
    exportIntervalMillis: EXPORT_INTERVAL_MS,
    exportTimeoutMillis: EXPORT_TIMEOUT_MS,
    metricProducers,
  })
}

async function startTracing(endpoint: string, resource: Resource): Promise<{ shutdown(): Promise<void> }> {
  const [{ OTLPTraceExporter }, { BatchSpanProcessor, TracerProvider }] = await Promise.all([
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/sdk-trace'),
  ])
  const exporter = new OTLPTraceExporter({ url: `${endpoint}/v1/traces`, timeoutMillis: EXPORT_TIMEOUT_MS })
  const processor = new BatchSpanProcessor({ exporter, maxQueueSize: SPANS_WAITING_MAX })
  const provider = new TracerProvider({ resource, spanProcessors: [processor] })
  trace.setGlobalTracerProvider(provider)
  return provider
}

/** What OpenTelemetry itself complains about, such as a collector that cannot be reached. */
function diagnosticsTo(logger: Logger): Parameters<typeof diag.setLogger>[0] {
  const warn = (message: string): void => logger.warn({ reason: message.slice(0, 500) }, 'telemetry')
  const ignore = (): void => undefined
  return { error: warn, warn, info: ignore, debug: ignore, verbose: ignore }
}
