/**
 * The channel of Node's own modules, for where the addon cannot be built. Root only: mount(8) does the mounting with the
 * device inherited, and only root may.
 *
 * Reads of /dev/fuse block, each on a thread of libuv's pool, so some threads are left for everybody else's files: a
 * pool of four (the default) has two reads under way. UV_THREADPOOL_SIZE makes it larger.
 *
 * A thread in such a read can only be freed by ending the connection, and Node waits for its threads when it ends. So
 * `close`, and a hook at the process's exit, abort the connection (/sys/fs/fuse/connections, or umount -f). Nothing
 * does that for a worker thread that is terminated: close the channel before.
 */
import { execFileSync } from 'node:child_process'
import { close, openSync, read, write, writeFileSync, writevSync } from 'node:fs'
import { constants } from 'node:os'
import { promisify } from 'node:util'
import { assert } from '../../../common/assert.ts'
import { TidegateError } from '../../../common/errors.ts'
import { deviceError, deviceErrorFrom, errnoOf, isEnd, programError } from './device-errors.ts'
import { kernelMountOptions } from './mount-options.ts'
import { FILE_SYSTEM_TYPE, findMount, type MountEntry, setReadAheadKib, unmountByProgram } from './mount-table.ts'
import { NotificationQueue } from './notification-queue.ts'
import { type FuseChannel, type MountOptions, type OnRequests, REPLY_PIECES_MAX, type RequestSlot } from './ports.ts'
import { runProgram } from './run-program.ts'
import { SlotPool } from './slot-pool.ts'

const { EAGAIN, EINTR, EIO, ENODEV, ENOENT } = constants.errno
const POOL_THREADS_DEFAULT = 4
const READS_MAX = 8
const ABORT_TIMEOUT_MS = 10_000

export async function mountByNode(mountPoint: string, options: MountOptions): Promise<FuseChannel> {
  if (process.geteuid?.() !== 0) {
    throw new TidegateError('Unavailable', 'without the native addon only root can mount (npm run native builds it)')
  }
  let descriptor: number
  try {
    descriptor = openSync('/dev/fuse', 'r+')
  } catch (error) {
    throw deviceErrorFrom('/dev/fuse', error)
  }
  try {
    // 3 is the descriptor's number in mount(8), and that is where the kernel looks it up.
    const mountOptions = `nosuid,nodev,${kernelMountOptions(3, options)}`
    const args = ['-i', '-c', '-t', FILE_SYSTEM_TYPE, '-o', mountOptions, '--', options.name, mountPoint]
    const result = await runProgram('mount', args, { descriptor })
    if (result.code !== 0) throw programError(`mount ${mountPoint}`, result.message)
    const mount = await findMount(mountPoint)
    if (mount === undefined) throw new TidegateError('Unavailable', `${mountPoint} was mounted and is gone again`)
    return new NodeChannel(descriptor, mount, options)
  } catch (error) {
    close(descriptor)
    throw error
  }
}

/** So that as many threads of the pool are left as are taken. */
function readsInFlight(slotCount: number): number {
  const threads = Number(process.env['UV_THREADPOOL_SIZE'] ?? POOL_THREADS_DEFAULT) || POOL_THREADS_DEFAULT
  return Math.max(1, Math.min(READS_MAX, slotCount, Math.floor(threads / 2)))
}

class NodeChannel implements FuseChannel {
  readonly twin = 'node'
  readonly mountPoint: string
  readonly descriptor: number
  readonly closed: Promise<void>
  readonly #mount: MountEntry
  readonly #pool: SlotPool
  readonly #notifications: NotificationQueue
  readonly #end: PromiseWithResolvers<void> = Promise.withResolvers()
  readonly #free: RequestSlot[]
  readonly #onExit = (): void => this.#abort()
  #onRequests: OnRequests | undefined
  /** Reads that could be under way but have no slot. */
  #idleReads: number
  #readsUnderWay = 0
  #delivering: RequestSlot | undefined
  /** The errno that ended it. */
  #ended: number | undefined

  constructor(descriptor: number, mount: MountEntry, options: MountOptions) {
    this.descriptor = descriptor
    this.mountPoint = mount.mountPoint
    this.#mount = mount
    this.#pool = new SlotPool(options)
    this.#free = [...this.#pool.slots]
    this.#idleReads = readsInFlight(options.slotCount)
    this.#notifications = new NotificationQueue((messages) => this.#writeNotifications(messages))
    this.closed = this.#end.promise
    // Whoever does not wait for the end need not be told of it.
    this.closed.catch(() => undefined)
    process.on('exit', this.#onExit)
  }

  start(onRequests: OnRequests): void {
    assert(this.#onRequests === undefined, 'a channel is started once')
    this.#onRequests = onRequests
    this.#read()
  }

  keep(slot: RequestSlot): void {
    this.#pool.keep(slot)
  }

  release(slot: RequestSlot): void {
    this.#pool.release(slot)
    // Released in the call that delivers it: then it is free when that call returns.
    if (slot === this.#delivering) return
    this.#free.push(slot)
    this.#read()
  }

  reply(head: Uint8Array, ...pieces: readonly Uint8Array[]): boolean {
    assert(pieces.length <= REPLY_PIECES_MAX, `reply of ${pieces.length} pieces`)
    if (this.#ended !== undefined) return false
    try {
      writevSync(this.descriptor, [head, ...pieces])
      return true
    } catch (error) {
      const errno = errnoOf(error)
      if (errno !== undefined && (errno === ENOENT || isEnd(errno))) return false
      throw deviceErrorFrom('the kernel refused a reply', error, 'Internal')
    }
  }

  notify(message: Uint8Array): Promise<void> {
    return this.#notifications.send(message)
  }

  setReadAheadKib(kib: number): Promise<boolean> {
    return setReadAheadKib(this.#mount.device, kib)
  }

  async unmount(options: { readonly lazy?: boolean } = {}): Promise<void> {
    if ((await findMount(this.mountPoint)) === undefined) return
    await unmountByProgram(this.mountPoint, { lazy: options.lazy ?? false })
  }

  async close(): Promise<void> {
    if (this.#ended === undefined) {
      this.#abort()
      // Reads come back with the end; without any there is nobody to notice it.
      if (this.#readsUnderWay === 0) this.#finish(ENODEV)
    }
    await this.closed.catch(() => undefined)
  }

  #read(): void {
    while (this.#idleReads > 0 && this.#free.length > 0 && this.#ended === undefined && this.#onRequests) {
      const slot = this.#free.pop()
      if (slot === undefined) return
      this.#idleReads -= 1
      this.#readInto(slot)
    }
  }

  #readInto(slot: RequestSlot): void {
    this.#readsUnderWay += 1
    read(this.descriptor, slot.bytes, 0, slot.bytes.length, null, (error, length) => {
      this.#readsUnderWay -= 1
      const errno = error === null ? 0 : (errnoOf(error) ?? EIO)
      // Interrupted before it got here, or by a signal: ask again.
      if (errno === ENOENT || errno === EINTR || errno === EAGAIN) return this.#readInto(slot)
      this.#idleReads += 1
      if (errno !== 0) return this.#finish(errno)
      slot.length = length
      this.#delivering = slot
      try {
        this.#onRequests?.([slot])
      } finally {
        this.#delivering = undefined
        if (!this.#pool.isKept(slot)) this.#free.push(slot)
        this.#read()
      }
    })
  }

  #finish(errno: number): void {
    this.#ended ??= errno
    if (this.#readsUnderWay > 0) return
    process.off('exit', this.#onExit)
    close(this.descriptor, () => {
      const failure = this.#ended ?? ENODEV
      if (isEnd(failure)) this.#end.resolve()
      else this.#end.reject(deviceError(`reading the device of ${this.mountPoint}`, failure))
    })
  }

  /** Ends the connection, in the kernel and at once. What it names is ours as long as we hold the device. */
  #abort(): void {
    const connection = this.#mount.device.split(':')[1] ?? ''
    try {
      writeFileSync(`/sys/fs/fuse/connections/${connection}/abort`, '1', { flag: 'r+' })
    } catch {
      try {
        execFileSync('umount', ['-i', '-c', '-f', '-l', '--', this.mountPoint], {
          stdio: 'ignore',
          timeout: ABORT_TIMEOUT_MS,
        })
      } catch {
        // Not mounted any more: then the reads have ended by themselves.
      }
    }
  }

  async #writeNotifications(messages: Uint8Array): Promise<void> {
    if (this.#ended !== undefined) {
      throw new TidegateError('Unavailable', `${this.mountPoint} is not mounted any more`)
    }
    let failure: unknown
    const view = new DataView(messages.buffer, messages.byteOffset, messages.byteLength)
    for (let at = 0; at < messages.length;) {
      const length = view.getUint32(at, true)
      assert(length > 0 && length <= messages.length - at, `notification of ${length} bytes`)
      try {
        await writeAsync(this.descriptor, messages, at, length)
      } catch (error) {
        if (errnoOf(error) !== ENOENT) failure ??= error
      }
      at += length
    }
    if (failure !== undefined) throw deviceErrorFrom('the kernel refused a notification', failure)
  }
}

const writeAsync = promisify(write)
