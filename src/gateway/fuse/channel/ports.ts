/**
 * The seam between the FUSE protocol and the kernel: a device that requests are read from and replies are written to.
 * Bytes only: what they mean is the protocol's business. Two twins provide it and pass one suite
 * (test/conformance/fuse-channel.ts):
 *
 *     addon   native/fuse: root by mount(2), others by fusermount3; many requests a call, no thread waits
 *     node    Node's own modules and mount(8): root only, reads block threads of libuv's pool, slower
 *
 * Rules for whoever serves a mount:
 *
 * - Never touch the mount from the thread that serves it: it would wait for itself.
 * - Every request that wants a reply gets one, in bounded time: a process in direct I/O cannot even be killed before.
 * - A server that dies leaves a dead mount: its users get ENOTCONN and do not hang (see mount-table.ts for the cleaning).
 */

export type ChannelTwin = 'addon' | 'node'

/** FUSE's request header and the largest fixed part behind it fit in a page; a WRITE's data comes on top. */
export const REQUEST_OVERHEAD_BYTES = 4096

/** Pieces of one reply. */
export const REPLY_PIECES_MAX = 256

export interface ChannelOptions {
  /** What INIT will answer as max_write; a slot holds that and REQUEST_OVERHEAD_BYTES. A multiple of 4096. */
  readonly writeBytesMax: number
  /** Requests that may be held at once: those of one batch, and those kept. When all are kept, reading stops. */
  readonly slotCount: number
  /**
   * For how long after a batch the device is polled before the thread sleeps (addon only; 0: not at all). Halves the
   * latency of small operations in a row, at the price of a busy processor and of timers that wait as long.
   */
  readonly spinUsMax: number
}

export interface MountOptions extends ChannelOptions {
  /** An existing directory. */
  readonly mountPoint: string
  /** What `df` and mountinfo show as the source. Letters, digits, `.`, `_`, `:`, `-`. */
  readonly name: string
  /** Let other users in; for ordinary users only where /etc/fuse.conf says user_allow_other. */
  readonly allowOther: boolean
  /** Let the kernel check mode, owner and group. */
  readonly defaultPermissions: boolean
  /** The twin to use, where it must be a certain one. Else the addon if it loads, or can be built; else Node. */
  readonly twin?: ChannelTwin
}

/** One request, in memory that is used again as soon as the call that delivered it returns, unless it is kept. */
export interface RequestSlot {
  readonly index: number
  /** The whole slot, over shared memory: the request is its first `length` bytes, and begins with fuse_in_header. */
  readonly bytes: Buffer
  /** The same memory as 32-bit words in the machine's order (FUSE's order). */
  readonly words: Uint32Array
  /** Bytes of the request. */
  length: number
}

/** Gets at least one request. The array and its slots are the channel's and change after the call. */
export type OnRequests = (batch: readonly RequestSlot[]) => void

export interface FuseChannel {
  readonly twin: ChannelTwin
  /** Where it is mounted, without symbolic links. */
  readonly mountPoint: string
  /** Of the device; for `cloneChannel` in another thread of this process. Never to be closed. */
  readonly descriptor: number
  /**
   * Resolves when there is nothing more to serve: unmounted, aborted or closed. Rejects when the device failed in another
   * way; then the channel is closed too.
   */
  readonly closed: Promise<void>

  /** Begins to deliver, on the event loop of this thread. Once. */
  start(onRequests: OnRequests): void

  /** Keeps the slot's bytes as they are until `release`. Only inside the call that delivers the slot. */
  keep(slot: RequestSlot): void
  release(slot: RequestSlot): void

  /**
   * Writes one reply: `head` begins with fuse_out_header, whose length counts the pieces too (at most REPLY_PIECES_MAX).
   * All bytes have been taken when it returns, so buffers may be reused; views of shared memory are fine.
   * @returns false when nobody waits for it any more (interrupted, aborted, unmounted)
   * @throws TidegateError Internal when the kernel refuses it as malformed. Then it may still wait: reply EIO instead.
   */
  reply(head: Uint8Array, ...pieces: readonly Uint8Array[]): boolean

  /**
   * Sends a FUSE_NOTIFY_* message (copied at once; its fuse_out_header's length counts all of it). The kernel may take
   * locks that one of our own requests holds, so messages go out in order from another thread: do not make a reply wait
   * for this promise, unless its request holds none and the wait has an end.
   * Resolves when the kernel was told, also when it held nothing of what the message names.
   * @throws SlowDown when NOTIFICATIONS_MAX wait already; Unavailable with the errno when the kernel refused this one or
   *   one that went out with it
   */
  notify(message: Uint8Array): Promise<void>

  /**
   * How far the kernel reads ahead of a sequential reader. Call it once INIT was answered (INIT lowers it). Only root may.
   * @returns false when it could not be set
   */
  setReadAheadKib(kib: number): Promise<boolean>

  /**
   * Takes the mount out of the tree. Without `lazy` it fails while a file in it is open (Unavailable, errno EBUSY); with it,
   * users that hold files go on and `closed` follows when the last has gone. Requests are still delivered meanwhile.
   * No error when it is not mounted any more.
   */
  unmount(options?: { readonly lazy?: boolean }): Promise<void>

  /** Gives the device up. What is mounted still is dead afterwards (ENOTCONN). Drain and unmount before. */
  close(): Promise<void>
}
