/** What the proof of times to live knows of the keys that it put: when each expires, as the gateway told. */
import type { Random } from '../../model/random.ts'

const SLOT_MS = 100

export interface ExpiringKey {
  readonly key: string
  readonly group: string
  readonly expiresMs: number
}

export class ExpiringKeys {
  readonly #byKey = new Map<string, ExpiringKey>()
  readonly #bySlot = new Map<number, ExpiringKey[]>()
  readonly #lastOfGroup = new Map<string, number>()
  lastMs = 0

  get count(): number {
    return this.#byKey.size
  }

  add(key: string, expiresMs: number): void {
    const group = groupOf(key)
    const added = { key, group, expiresMs }
    this.#byKey.set(key, added)
    const slot = Math.floor(expiresMs / SLOT_MS)
    const others = this.#bySlot.get(slot)
    if (others === undefined) this.#bySlot.set(slot, [added])
    else others.push(added)
    this.#lastOfGroup.set(group, Math.max(this.#lastOfGroup.get(group) ?? 0, expiresMs))
    this.lastMs = Math.max(this.lastMs, expiresMs)
  }

  /** Undefined for one that is not known yet: its put is not answered. */
  get(key: string): ExpiringKey | undefined {
    return this.#byKey.get(key)
  }

  /** When the last key of a group expires; only final once all keys are put. */
  lastOf(group: string): number {
    return this.#lastOfGroup.get(group) ?? 0
  }

  /** One that expires about then; undefined if there is none. */
  around(atMs: number, random: Random): ExpiringKey | undefined {
    const some = this.#bySlot.get(Math.floor(atMs / SLOT_MS)) ?? []
    return some[random.below(some.length)]
  }
}

/** The common prefix that a key lies under, with its slash. */
export function groupOf(key: string): string {
  return key.slice(0, key.indexOf('/') + 1)
}
