/** What the process of the watchers is asked to do, and what it says back. */

export interface WatchJob {
  /** http://HOST:PORT */
  readonly origin: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly watchers: number
}

/** `open` watchers; answer with what they were told once each was told of `revision`; close them. */
export type WatchAsk = { readonly open: WatchJob } | { readonly collectTo: number } | { readonly close: true }

/** When the watchers were told of a revision, ascending, in ms of the machine's monotonic clock. */
export interface Told {
  readonly revision: number
  readonly atMs: Float64Array
}

export type WatchReply = { readonly opened: true } | { readonly told: Told[] } | { readonly failure: string }

/** Runs on in all processes of a machine alike, which `performance.now()` does not. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
