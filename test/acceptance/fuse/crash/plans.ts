/**
 * What the writers of the crash test do to their files, as pure functions of a seed: a plan is a sequence of steps, and the state after
 * each of them is known to whoever checks. A writer only has to note which step it began last and which it has synced last.
 *
 *   replaced   a new content is written beside, synced, renamed over the file; or the file is removed; then the directory is synced
 *   appended   a record is appended by one write; now and then the file is synced
 *   patched    one write somewhere in the file, or a truncation; now and then the file is synced
 *   moved      the file is renamed between two directories, and both are synced
 */
import { createHash } from 'node:crypto'
import { Random } from '../../../model/random.ts'

export const PLAN_KINDS = ['replaced', 'appended', 'patched', 'moved'] as const
export type PlanKind = (typeof PLAN_KINDS)[number]

export type Step =
  | { readonly do: 'replace'; readonly content: Buffer }
  | { readonly do: 'remove' }
  | { readonly do: 'write'; readonly offset: number; readonly bytes: Buffer; readonly sync: boolean }
  | { readonly do: 'truncate'; readonly size: number; readonly sync: boolean }
  | { readonly do: 'move'; readonly from: string; readonly to: string }

/** Path of the file, or undefined when there is none, and its content. */
export type State = { readonly path: string; readonly content: Buffer } | undefined

const CONTENT_BYTES_MAX = 200_000
const RECORD_BYTES_MAX = 20_000
const APPENDED_BYTES_MAX = 4_000_000
const SYNC_CHANCE = 0.3
export const DIRECTORIES = ['left', 'right'] as const

export class Plan {
  readonly kind: PlanKind
  readonly name: string
  readonly #random: Random
  #state: State

  constructor(kind: PlanKind, seed: number) {
    this.kind = kind
    this.name = `${kind}-${seed}`
    this.#random = new Random(seed)
    const content = kind === 'moved' ? this.#bytes(CONTENT_BYTES_MAX) : Buffer.alloc(0)
    this.#state = kind === 'replaced' ? undefined : { path: this.pathIn(0), content }
  }

  pathIn(directory: 0 | 1): string {
    return `${DIRECTORIES[directory]}/${this.name}`
  }

  /** After the last step. Before the first one all but a file that is replaced as a whole are there. */
  get state(): State {
    return this.#state
  }

  next(): Step {
    const step = this.#make()
    this.#state = this.#after(step)
    return step
  }

  #make(): Step {
    const random = this.#random
    const size = this.#state?.content.length ?? 0
    const sync = random.chance(SYNC_CHANCE)
    switch (this.kind) {
      case 'replaced':
        return this.#state && random.chance(0.15)
          ? { do: 'remove' }
          : { do: 'replace', content: this.#bytes(CONTENT_BYTES_MAX) }
      case 'appended':
        if (size > APPENDED_BYTES_MAX) return { do: 'truncate', size: 0, sync: true }
        return { do: 'write', offset: size, bytes: this.#bytes(RECORD_BYTES_MAX), sync }
      case 'patched':
        if (random.chance(0.1)) return { do: 'truncate', size: random.below(CONTENT_BYTES_MAX), sync }
        return { do: 'write', offset: random.below(CONTENT_BYTES_MAX), bytes: this.#bytes(RECORD_BYTES_MAX), sync }
      case 'moved': {
        const from = this.#state?.path ?? ''
        return { do: 'move', from, to: from === this.pathIn(0) ? this.pathIn(1) : this.pathIn(0) }
      }
    }
  }

  #after(step: Step): State {
    const path = this.#state?.path ?? this.pathIn(0)
    const old = this.#state?.content ?? Buffer.alloc(0)
    switch (step.do) {
      case 'replace':
        return { path, content: step.content }
      case 'remove':
        return undefined
      case 'write':
        return { path, content: resized(old, Math.max(old.length, step.offset + step.bytes.length), step) }
      case 'truncate':
        return { path, content: resized(old, step.size) }
      case 'move':
        return { path: step.to, content: old }
    }
  }

  #bytes(max: number): Buffer {
    const bytes = Buffer.alloc(1 + this.#random.below(max))
    const word = 1 + this.#random.below(2 ** 31)
    for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE((word + at) >>> 0, at)
    return bytes
  }
}

function resized(old: Buffer, size: number, write?: { readonly offset: number; readonly bytes: Buffer }): Buffer {
  const content = Buffer.alloc(size)
  old.copy(content, 0, 0, Math.min(old.length, size))
  if (write) write.bytes.copy(content, write.offset)
  return content
}

/** One line for a state: `path bytes digest`, or `nothing`. */
export function stateLine(state: State): string {
  if (!state) return 'nothing'
  return `${state.path} ${state.content.length} ${createHash('sha1').update(state.content).digest('hex')}`
}
