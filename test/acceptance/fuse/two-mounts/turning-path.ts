/**
 * A path that leads now to one directory and now to another: a symbolic link that is replaced every few milliseconds. Who opens a file by it again and again meets
 * each of them, and needs to know nothing of that.
 */
import { renameSync, rmSync, symlinkSync } from 'node:fs'
import type { Random } from '../../../model/random.ts'

const TURN_MS_MAX = 10

export class TurningPath {
  readonly path: string
  readonly #directories: readonly string[]
  readonly #random: Random
  #timer: NodeJS.Timeout | undefined

  /** The link is made here. */
  constructor(path: string, directories: readonly string[], random: Random) {
    this.path = path
    this.#directories = directories
    this.#random = random
    symlinkSync(random.pick(directories), path)
    this.#later()
  }

  /** It stays where it leads. */
  stop(): void {
    clearTimeout(this.#timer)
  }

  #later(): void {
    this.#timer = setTimeout(() => this.#turn(), this.#random.below(TURN_MS_MAX))
  }

  /** Whoever follows it meanwhile finds the one or the other. */
  #turn(): void {
    const next = `${this.path}.next`
    rmSync(next, { force: true })
    symlinkSync(this.#random.pick(this.#directories), next)
    renameSync(next, this.path)
    this.#later()
  }
}
