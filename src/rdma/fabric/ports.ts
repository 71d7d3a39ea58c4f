/**
 * What the fabric twin stands on: memory that others may read or write without this process, and channels to do the same with theirs. Satisfied by the native addon (device.ts) and by a double of it
 * for tests; both are held to test/conformance/fabric-device.ts.
 *
 * **Thin.** A device carries out one operation at a time of those it is given, and says how each ended. It waits for nothing, tries nothing again, splits nothing and knows no deadline: that
 * is operations.ts and pair.ts.
 *
 * **Memory.** From `start` until `ended` an operation's memory is the device's: it may be read or written at any moment. It is nobody's business but the device's until then, however long that takes; `Channel.close` is the
 * one way to hurry it. A region's memory is kept alive by the device until the region is closed, and after that as `register` says.
 *
 * **Failures** come as FabricFailure. No input of a peer's, and no death of a peer, ends or blocks this process.
 */

/** libfabric's `verbs;ofi_rxm` and `tcp;ofi_rxm`. */
export type FabricProvider = 'verbs' | 'tcp'

export interface FabricDevice {
  readonly provider: FabricProvider
  /** What is used, for people: the name of libfabric's domain, such as `mlx5_0` or `eth0`. */
  readonly domain: string
  /** Of libfabric, such as `1.17.0`. */
  readonly version: string
  /** One operation moves at most so many bytes. */
  readonly operationBytesMax: number
  /**
   * The memory must stay where it is until the region is closed, and is best shared (memory.ts): what is transferred to elsewhere is gone from here, and the device touches what was there. With `verbs` it is pinned: all its pages become resident now.
   *
   * `through`: nobody is told of it but who is at the other end of this channel. The device keeps the memory of a region that was closed until all channels are closed through which it may still be touched: those
   * on which something has failed, and those of who could reach it; that is all that were open then, or `through`.
   * @throws FabricFailure
   */
  register(memory: Uint8Array, access: RegionAccess, through?: Channel): Region
  /** An end of its own, bound to the device's address. @throws FabricFailure */
  open(): Channel
  /** Channels that are open are closed, then regions. Never rejects; safe to repeat. */
  close(): Promise<void>
}

/** What others may do with it who know its key. Operations of this node may read and write it in any case. */
export type RegionAccess = 'none' | 'read' | 'read and write'

export interface Region {
  readonly memory: Uint8Array
  /** For whoever may reach it from elsewhere. */
  readonly key: bigint
  /** Of its first byte, as an operation elsewhere must say it. */
  readonly address: bigint
  readonly isClosed: boolean
  /** From here on nobody elsewhere can reach it. Operations of this node on it have ended before: else it throws an assertion. Safe to repeat. */
  close(): void
}

export interface Channel {
  /** By which the other end is told to connect to this one. */
  readonly name: Uint8Array
  readonly isClosed: boolean
  /** Operations that have been started and have not ended. */
  readonly underWay: number
  /**
   * Whether the other end's address is one that can be reached, as far as that is known without anything being sent to the other end: to be awaited before `connect` by whoever is to start operations, which would wait for it otherwise, and
   * this thread with them. Bounded by a second. Rejects FabricFailure.
   */
  resolve(name: Uint8Array): Promise<void>
  /** Once, before the first operation. Nothing is sent yet: whether anybody is there is seen by the first operation. @throws FabricFailure */
  connect(name: Uint8Array): void
  /**
   * `later`: the provider takes nothing now, and nothing has happened; it is to be tried again, soon and after each operation that ends. A peer that is dead may be `later` for ever.
   * After `started`, `ended` is called exactly once, never from within this call.
   * @throws FabricFailure when the provider refuses it: nothing has happened then
   */
  start(operation: Operation): 'started' | 'later'
  /** Whether operations are being held back because of `later`: the device then looks every millisecond whether the provider has come further. */
  hurry(isHeldBack: boolean): void
  /**
   * What is under way ends as `cut off`, and when this resolves no memory of an operation is touched any more, neither by this node nor by its hardware, and the other end reaches nothing here through this channel.
   * Never rejects; bounded; safe to repeat.
   */
  close(): Promise<void>
}

export interface Operation {
  /** `read`: from there to here. `write`: from here to there; it has ended well once the bytes are in the memory there. */
  readonly kind: 'read' | 'write'
  readonly region: Region
  /** Within the region. */
  readonly offset: number
  /** 1 to `operationBytesMax`. */
  readonly bytes: number
  readonly remote: RemoteMemory
  readonly ended: (failure: FabricFailure | undefined) => void
}

/** As the other end's Region says. */
export interface RemoteMemory {
  readonly key: bigint
  /** Of the first byte that is meant. */
  readonly address: bigint
}

/**
 * `refused`: the other end's memory may not be reached like this (key, range, right). `gone`: there is nobody any more. `cut off`: the channel was closed. `unfit`: this machine cannot (limits, no device).
 * `late`: others were in the way until its time was up, and nothing is wrong with the channel; a device knows no such thing, but operations.ts does. `failed`: anything else.
 */
export type FailureKind = 'refused' | 'gone' | 'cut off' | 'unfit' | 'late' | 'failed'

export class FabricFailure extends Error {
  override readonly name = 'FabricFailure'
  readonly kind: FailureKind

  constructor(kind: FailureKind, message: string) {
    super(message)
    this.kind = kind
  }
}

/** How a device is opened. */
export interface FabricDeviceOptions {
  readonly provider: FabricProvider
  /** An IP address of this machine, which the others reach. */
  readonly address: string
}
