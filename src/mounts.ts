/**
 * The mounts of one gateway: that of `--mount`, and those that `tidegate mount` makes while it runs. Each has a session of its own
 * over the same store. All end with the gateway, and none but that of `--mount` comes back with it. Part of the composition root.
 */
import { realpath } from 'node:fs/promises'
import { relative } from 'node:path'
import { TidegateError } from './common/errors.ts'
import type { Mounts } from './gateway/admin/mounts.ts'
import { resolveMountPoint } from './gateway/fuse/channel/mount-table.ts'
import { mountNamespace, type Mounted, type MountParts } from './mount.ts'

/** Each holds descriptors and memory for requests (16 slots of 1 MiB). */
const MOUNTS_MAX = 16

export class GatewayMounts implements Mounts {
  readonly #parts: Omit<MountParts, 'directory' | 'isAlone'>
  readonly #mounted = new Map<string, Mounted>()
  /** Making and taking away, one after the other. */
  #line: Promise<unknown> = Promise.resolve()
  #serves = false
  /** Those that are being made count. */
  #sessions = 0

  constructor(parts: Omit<MountParts, 'directory' | 'isAlone'>) {
    this.#parts = parts
  }

  /** Mounts on the directory, if there is one, and takes orders from then on. */
  async start(directory: string | undefined): Promise<void> {
    this.#serves = true
    if (directory !== undefined) await this.mount(directory)
  }

  list(): readonly { readonly mountPoint: string }[] {
    return [...this.#mounted.keys()].map((mountPoint) => ({ mountPoint }))
  }

  mount(directory: string): Promise<{ readonly mountPoint: string }> {
    return this.#next(async () => {
      if (this.#mounted.size >= MOUNTS_MAX) throw new TidegateError('InvalidRequest', `there are ${MOUNTS_MAX} mounts`)
      await this.#refuseNested(directory)
      const isAlone = (): boolean => this.#sessions === 1
      this.#sessions++
      try {
        const mounted = await mountNamespace({ ...this.#parts, directory, isAlone })
        const { mountPoint } = mounted
        this.#mounted.set(mountPoint, mounted)
        void mounted.ended.finally(() => this.#ended(mounted))
        return { mountPoint }
      } catch (error) {
        this.#sessions--
        throw error
      }
    })
  }

  #ended(mounted: Mounted): void {
    this.#sessions--
    if (this.#mounted.get(mounted.mountPoint) === mounted) this.#mounted.delete(mounted.mountPoint)
  }

  unmount(directory: string, options: { readonly lazy: boolean }): Promise<void> {
    return this.#next(async () => {
      const mountPoint = this.#mounted.has(directory) ? directory : await resolveMountPoint(directory)
      const mounted = this.#mounted.get(mountPoint)
      if (!mounted) throw new TidegateError('InvalidArgument', `this gateway is not mounted on ${directory}`)
      await (options.lazy ? mounted.stop() : mounted.stopIdle())
    })
  }

  /** Takes all away, and no more orders. */
  async stop(): Promise<void> {
    this.#serves = false
    // A directory of some file system that does not answer may hold the line for as long as it likes.
    await Promise.race([this.#line, this.#parts.clock.sleep(this.#parts.drainTimeoutMs)])
    const outcomes = await Promise.allSettled([...this.#mounted.values()].map((mounted) => mounted.stop()))
    const failed = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failed) throw failed.reason as Error
  }

  /** The gateway would have to serve itself while it mounts, and neither could be taken away before the other. */
  async #refuseNested(directory: string): Promise<void> {
    for (const mountPoint of this.#mounted.keys()) {
      if (isWithin(directory, mountPoint) || isWithin(await realpath(directory).catch(() => directory), mountPoint)) {
        throw new TidegateError('InvalidArgument', `mount point ${directory}: it lies in the mount on ${mountPoint}`)
      }
    }
  }

  #next<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#line.then(() => {
      if (!this.#serves) throw new TidegateError('Unavailable', 'the gateway is starting or stopping')
      return work()
    })
    this.#line = turn.catch(() => undefined)
    return turn
  }
}

function isWithin(path: string, directory: string): boolean {
  const way = relative(directory, path)
  return way !== '' && way !== '..' && !way.startsWith('../')
}
