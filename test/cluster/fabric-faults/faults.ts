/** What happens to the two gateways while one is read from: drawn from a seed, then done. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '../../model/random.ts'
import { PEER, READER, type TwoGateways } from './two-gateways.ts'

export const FAULT_KINDS = ['peer paused', 'peer killed', 'peer stopped', 'reader paused', 'network cut'] as const
export type FaultKind = (typeof FAULT_KINDS)[number]

/** Which way nothing passes any more. */
const CUTS = [
  [
    [READER, PEER],
    [PEER, READER],
  ],
  [[READER, PEER]],
  [[PEER, READER]],
] as const

export interface Fault {
  readonly kind: FaultKind
  /** When so much of the object has been read. */
  readonly atShare: number
  readonly lastsMs: number
  readonly cuts: (typeof CUTS)[number]
}

const SHARE_MAX = 0.95
const LASTS_MS_MIN = 100
/** One that is gone is waited for until it is there again, which takes long enough. */
const AWAY_MS_MAX = 2_000

export function drawFault(random: Random, kind: FaultKind, lastsMsMax: number): Fault {
  const isGone = kind === 'peer killed' || kind === 'peer stopped'
  const spanMs = Math.min(lastsMsMax, isGone ? AWAY_MS_MAX : Infinity) - LASTS_MS_MIN
  return {
    kind,
    atShare: random.next() * SHARE_MAX,
    // Short ones as often as long ones: what recovers in the middle of something is found by those.
    lastsMs: LASTS_MS_MIN + spanMs * random.next() ** 2,
    cuts: random.pick(CUTS),
  }
}

/** For how long the reader's process has been stopped, a pause under way included. */
export class ReaderPauses {
  #totalMs = 0
  #sinceMs: number | undefined

  readonly ms = (): number => this.#totalMs + (this.#sinceMs === undefined ? 0 : performance.now() - this.#sinceMs)

  begin(): void {
    this.#sinceMs = performance.now()
  }

  end(): void {
    this.#totalMs = this.ms()
    this.#sinceMs = undefined
  }
}

/** Resolves when it is over, and both run again. */
export async function enact(
  gateways: TwoGateways,
  { kind, lastsMs, cuts }: Fault,
  pauses: ReaderPauses,
): Promise<void> {
  switch (kind) {
    case 'peer paused':
      gateways.pause(PEER)
      await sleep(lastsMs)
      return gateways.resume(PEER)
    case 'reader paused':
      pauses.begin()
      gateways.pause(READER)
      await sleep(lastsMs)
      gateways.resume(READER)
      return pauses.end()
    case 'peer killed':
      await gateways.kill(PEER)
      await sleep(lastsMs)
      return await gateways.start(PEER)
    case 'peer stopped': {
      const code = await gateways.stop(PEER)
      if (code !== 0) throw new Error(`the peer was stopped and ended with ${code}`)
      await sleep(lastsMs)
      return await gateways.start(PEER)
    }
    case 'network cut':
      for (const [from, to] of cuts) gateways.cut(from, to)
      await sleep(lastsMs)
      return gateways.heal()
  }
}
