/**
 * Steps of a move, each one transaction of etcd that rewrites the row `moving` (moving-row.ts) along with what it does, and compares it with how the step before left it. So
 * a step takes effect once, however often it is sent and whether it is answered or not (C6): when an answer is missing the row tells. And two that move at once find each other out.
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import type { EtcdLayout } from '../raft/layout.ts'
import { EtcdFailure, type Compare, type Etcd, type EtcdOperation, type RangeResult } from '../raft/ports.ts'
import { unavailable } from '../raft/words.ts'
import { movingIs, putMoving, readMoving, type FoundMoving, type Moving } from './moving-row.ts'

const RETRY_MS = 200

export interface ChangesOptions {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly clock: Clock
  /** How long etcd may be away at a time. */
  readonly waitMsMax: number
}

export class Changes {
  readonly #options: ChangesOptions
  #found: FoundMoving | undefined

  constructor(options: ChangesOptions) {
    this.#options = options
  }

  get found(): FoundMoving | undefined {
    return this.#found
  }

  async look(): Promise<FoundMoving | undefined> {
    const { etcd, layout } = this.#options
    this.#found = await this.patiently(() => readMoving(etcd, layout))
    return this.#found
  }

  range(request: Parameters<Etcd['range']>[0]): Promise<RangeResult> {
    return this.patiently(() => this.#options.etcd.range(request))
  }

  /** False when one of the compares does not hold; nothing is changed then. @throws TidegateError */
  async step(next: Moving, operations: readonly EtcdOperation[], compares: readonly Compare[] = []): Promise<boolean> {
    const { layout } = this.#options
    return await this.#change(next, [putMoving(layout, next), ...operations], compares)
  }

  /** Takes the row away. */
  async end(operations: readonly EtcdOperation[] = []): Promise<void> {
    const { layout } = this.#options
    const range = { start: layout.moving, end: `${layout.moving}\0` as typeof layout.moving }
    await this.#change(undefined, [{ kind: 'delete', range }, ...operations], [])
  }

  /** What may be done twice, while the row stands as it does. */
  async repeatable(operations: readonly EtcdOperation[]): Promise<void> {
    const { etcd, layout } = this.#options
    const compares = [movingIs(layout, this.#found)]
    const { succeeded } = await this.patiently(() => etcd.transact({ compares, success: operations, failure: [] }))
    if (!succeeded) throw interfered(layout)
  }

  async #change(
    next: Moving | undefined,
    success: readonly EtcdOperation[],
    compares: readonly Compare[],
  ): Promise<boolean> {
    const { etcd, layout } = this.#options
    const before = this.#found
    let isSent = false
    return await this.patiently(async () => {
      if (isSent && (await this.#isDone(next, before))) return true
      isSent = true
      const { succeeded, revision } = await etcd.transact({
        compares: [movingIs(layout, before), ...compares],
        success,
        failure: [],
      })
      if (!succeeded) return await this.#isDone(next, before)
      this.#found = next && { ...next, modRevision: revision }
      return true
    })
  }

  /** Whether the row says that a step has taken effect, and not that nothing has. @throws Unavailable when it says neither */
  async #isDone(next: Moving | undefined, before: FoundMoving | undefined): Promise<boolean> {
    const { etcd, layout } = this.#options
    const found = await readMoving(etcd, layout)
    if (found?.modRevision === before?.modRevision) return false
    if (!isSame(found, next)) throw interfered(layout)
    this.#found = found
    return true
  }

  /** Repeats what fails because etcd is away. @throws TidegateError */
  async patiently<T>(what: () => Promise<T>): Promise<T> {
    const { clock, waitMsMax } = this.#options
    const endMs = clock.monotonicMs() + waitMsMax
    for (;;) {
      try {
        return await what()
      } catch (error) {
        const passes = error instanceof EtcdFailure && error.kind === 'unavailable'
        if (!passes || clock.monotonicMs() >= endMs) throw stoppedShort(error)
      }
      await clock.sleep(RETRY_MS)
    }
  }
}

function isSame(found: Moving | undefined, next: Moving | undefined): boolean {
  if (found === undefined || next === undefined) return found === next
  return (
    found.state === next.state &&
    found.name === next.name &&
    found.source === next.source &&
    found.cursor === next.cursor
  )
}

function stoppedShort(error: unknown): Error {
  const known = unavailable(error)
  if (!(error instanceof EtcdFailure)) return known
  const then =
    error.kind === 'no space'
      ? ' Once it has room, and its alarm is taken back (etcdctl alarm disarm), run this again: it goes on where it stopped'
      : '. Run this again: it goes on where it stopped'
  return new TidegateError(error.kind === 'no space' ? 'StorageFull' : 'Unavailable', `${known.message}${then}`, {
    cause: error,
  })
}

function interfered({ prefix }: EtcdLayout): TidegateError {
  return new TidegateError('Unavailable', `the metadata below ${prefix} are being moved by another process too`)
}

/** @throws InvalidRequest */
export function refused(message: string): never {
  throw new TidegateError('InvalidRequest', message)
}

/** Of an empty prefix: no row is younger than nothing. */
export function isEmpty(layout: EtcdLayout): Compare {
  return { kind: 'none younger', range: layout.all, revision: 0 }
}

/** Nothing at all was committed there since, though rows may have been deleted past a commit, which nobody does. */
export function nothingSince(layout: EtcdLayout, revision: Revision): Compare {
  return { kind: 'none younger', range: layout.all, revision }
}
