import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Meter, ObservableResult } from '@opentelemetry/api'

const RESOLUTION_MS = 20
/** The delays shown are those since the last reading that is at least this old, so that two readers do not rob each other. */
const WINDOW_MS = 10_000
const QUANTILES: readonly (readonly [label: string, percentile: number])[] = [
  ['0.5', 50],
  ['0.99', 99],
  ['1', 100],
]

/** Event-loop delay, memory and processor time of this process. Returns what stops it. */
export function watchProcess(meter: Meter, version: string): () => void {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  let resetMs = Date.now()
  gauge(meter, 'tidegate_event_loop_delay_seconds', 'Delay of the event loop in the last seconds', (result) => {
    for (const [quantile, percentile] of QUANTILES) {
      // The histogram holds whole intervals; what is over the resolution is delay.
      result.observe(Math.max(0, delay.percentile(percentile) / 1e6 - RESOLUTION_MS) / 1_000, { quantile })
    }
    if (Date.now() - resetMs < WINDOW_MS) return
    delay.reset()
    resetMs = Date.now()
  })
  gauge(meter, 'tidegate_process_memory_bytes', 'Memory of the process by kind', (result) => {
    const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage()
    const kinds = { rss, heap_used: heapUsed, external, array_buffers: arrayBuffers }
    for (const [kind, bytes] of Object.entries(kinds)) result.observe(bytes, { kind })
  })
  meter
    .createObservableCounter('tidegate_process_cpu_seconds', { description: 'Processor time used by mode' })
    .addCallback((result) => {
      const { user, system } = process.cpuUsage()
      result.observe(user / 1e6, { mode: 'user' })
      result.observe(system / 1e6, { mode: 'system' })
    })
  const startedSeconds = Math.round(Date.now() / 1_000 - process.uptime())
  gauge(meter, 'tidegate_process_start_time_seconds', 'When the process started, in seconds since 1970', (result) => {
    result.observe(startedSeconds)
  })
  gauge(meter, 'tidegate_build_info', 'Always 1; the labels say what runs', (result) => {
    result.observe(1, { version, node: process.versions.node })
  })
  return () => delay.disable()
}

function gauge(meter: Meter, name: string, description: string, observe: (result: ObservableResult) => void): void {
  meter.createObservableGauge(name, { description }).addCallback(observe)
}
