/**
 * Watches that the remote store stays this node's. A restore may hand the namespace to another data directory while this process is paused, cut
 * off or simply forgotten (persist/remote-marker.ts); from then on it must neither publish there nor delete.
 *
 * Known gap: a process that is paused between a check and the request that it allowed still sends that one request. It removes nothing that a
 * restored namespace needs: a segment may go only after names without it have arrived and the store was seen to be ours after that
 * (docs/decisions/0013), so whoever took it over later has read those names.
 */
import type { BackgroundJob } from './common/background.ts'
import type { Clock } from './common/clock.ts'
import { isTidegateError } from './common/errors.ts'
import { heldSince } from './persist/remote-marker.ts'
import type { RemoteStore } from './persist/remote/ports.ts'
import type { RemoteHolder } from './persist/remote-marker.ts'

const CHECK_EVERY_MS = 60_000
/** How old an answer may be on which something is removed. */
const RECENT_MS = 5000

export class RemoteGuard {
  readonly #remote: RemoteStore
  readonly #claim: RemoteHolder
  readonly #clock: Clock
  readonly #onFenced: (error: Error) => void
  #verifiedMs = -Infinity
  #sinceMs: number | undefined
  #checking: Promise<void> | undefined
  #fenced: Error | undefined

  constructor(options: {
    remote: RemoteStore
    claim: RemoteHolder
    clock: Clock
    /** Somebody else holds the store now: this process must end. Called once. */
    onFenced: (error: Error) => void
  }) {
    this.#remote = options.remote
    this.#claim = options.claim
    this.#clock = options.clock
    this.#onFenced = options.onFenced
  }

  get holder(): string {
    return this.#claim.holder
  }

  /** When it became ours, ms since 1970; undefined before it has been seen, and where its marker does not say. */
  get sinceMs(): number | undefined {
    return this.#sinceMs
  }

  /** Resolves once the store has been seen to be ours, since this process started. @throws Unavailable, InvalidRequest */
  async verified(): Promise<void> {
    if (this.#fenced) throw this.#fenced
    if (this.#verifiedMs === -Infinity) await this.#checkOnce()
  }

  /** Resolves when it was ours a moment ago: before anything is removed. @throws Unavailable, InvalidRequest */
  async verifiedNow(): Promise<void> {
    if (this.#fenced) throw this.#fenced
    if (this.#clock.monotonicMs() - this.#verifiedMs > RECENT_MS) await this.#checkOnce()
  }

  /**
   * Resolves when a look that began after the call has found it ours. What had arrived there before the call was there when it was taken
   * over, if ever it is: so whoever takes it over finds it. @throws Unavailable, InvalidRequest
   */
  async verifiedAfresh(): Promise<void> {
    // One that is under way may have been answered before.
    await this.#checking?.catch(() => undefined)
    if (this.#fenced) throw this.#fenced
    await this.#checkOnce()
  }

  #checkOnce(): Promise<void> {
    this.#checking ??= this.#check().finally(() => (this.#checking = undefined))
    return this.#checking
  }

  async #check(): Promise<void> {
    const askedMs = this.#clock.monotonicMs()
    try {
      this.#sinceMs = await heldSince(this.#remote, this.#claim)
      // Of a store that did not answer at the start it is not known yet what it can do.
      if (this.#verifiedMs === -Infinity) await this.#remote.connect()
      this.#verifiedMs = askedMs
    } catch (error) {
      if (isTidegateError(error) && error.details['fenced'] === true) {
        if (!this.#fenced) this.#onFenced(error)
        this.#fenced ??= error
      }
      throw error
    }
  }

  get job(): BackgroundJob {
    return {
      name: 'remote-guard',
      pauseMs: CHECK_EVERY_MS,
      round: async () => {
        await this.#checkOnce()
        return false
      },
    }
  }
}
