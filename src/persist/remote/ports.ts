/**
 * The remote store: named objects behind everything else, on local disk or in an external S3. Providers: `directory-store.ts`,
 * `s3-store.ts`, a twin in memory for simulations; `faulty-store.ts` makes any of them fail on purpose. All pass
 * test/conformance/remote-store.ts, each by the capabilities that it declares.
 *
 * Names are relative, `/`-separated, of printable ASCII, at most 255 bytes (`segments/ab/<id>.seg`): where they lie below is the
 * provider's business. Layout of what Tidegate keeps there: docs/formats.md.
 *
 * Durability: what `put` and `putFile` stored is durable when they resolve, and is seen by every later call. When they reject,
 * the object may be there or not, but never in part; calling again with the same bytes is safe.
 *
 * Errors: `NoSuchKey` (the store itself says that there is no such object), `PreconditionFailed`, `SlowDown` (the store asks for less), `StorageFull`, `AccessDenied`, and
 * `Unavailable` for all the rest; the store's own code and status are in `details` (`remoteCode`, `status`) and the message names the
 * object. A provider retries by itself what is worth retrying within its time-outs; the caller sees what is left.
 */
import type { SegmentId } from '../../common/ids.ts'
import type { Hold } from './held-time.ts'

export interface RemoteCapabilities {
  /** `ifAbsent` and `ifMatch` are decided by the store, atomically. Without it giving them to `put` is refused. */
  readonly conditionalPut: boolean
  /** `putFile` moves the file when it can: afterwards the source is gone, and reading goes through the file system. */
  readonly takesFiles: boolean
}

export interface RemoteObject {
  readonly name: string
  readonly bytes: number
  /** By the store's clock, in ms since 1970. */
  readonly modifiedMs: number
}

export interface LocalFile {
  readonly path: string
  readonly bytes: number
  /** What is known of its first `dataBytes`: the CRC-32 of each page. Who has to say what it sends need not read it twice. */
  readonly pages?: { readonly dataBytes: number; readonly pageBytes: number; readonly pageCrcs: Uint32Array }
}

/** How a read is ended, and what it tells meanwhile. */
export interface ReadControl {
  readonly signal?: AbortSignal | undefined
  /** Waits for the provider's own rates go through here: whoever set a deadline lets it stand still meanwhile. */
  readonly hold?: Hold | undefined
  /**
   * Called for each buffer, in order and once, when it is full and not touched any more, whatever comes of the rest. A provider need
   * not call it: all buffers are free when the read has settled.
   */
  readonly onFilled?: ((index: number) => void) | undefined
}

export interface RemoteStore {
  /** For people: where it is, without secrets. */
  readonly description: string
  readonly capabilities: RemoteCapabilities
  /**
   * Learns what the store can do. Rejects with what is wrong (`Unavailable`, `AccessDenied`, `NoSuchBucket`); may be called
   * again, and nothing else needs it to have succeeded. Until it has, `conditionalPut` is false.
   */
  connect(): Promise<void>
  stop(): Promise<void>

  /** Stores a small object whole, over what was there. @returns its ETag */
  put(
    name: string,
    bytes: Uint8Array,
    condition?: { readonly ifAbsent: true } | { readonly ifMatch: string },
  ): Promise<{ etag: string }>
  /** Stores a local file of any size up to 5 TiB. `signal` gives up, and leaves nothing behind. */
  putFile(name: string, file: LocalFile, signal?: AbortSignal): Promise<void>
  /** A small object whole, with its ETag; undefined when there is none. @throws EntityTooLarge over `bytesMax` */
  get(name: string, bytesMax: number): Promise<{ bytes: Buffer; etag: string } | undefined>
  /**
   * Reads from `offset` on into the buffers, one after the other, in one request. Buffers may be slots of the slab: they are not touched
   * any more once it has settled, which is soon after the signal. @returns bytes read; fewer than asked only at the end of the
   * object. @throws NoSuchKey
   */
  read(name: string, offset: number, into: readonly Uint8Array[], control?: ReadControl): Promise<number>
  stat(name: string, control?: ReadControl): Promise<RemoteObject | undefined>
  /** Ascending by name in byte order, those after `after`, at most `limit` (1..1000). */
  list(prefix: string, after: string | undefined, limit: number): Promise<RemoteObject[]>
  /** No error for those that are not there. */
  remove(names: readonly string[]): Promise<void>
  /** Gives up uploads in parts that were begun before then and never finished. @returns how many */
  abandonUploads(begunBeforeMs: number): Promise<number>
}

/** `<hh>` are the last two digits of the id, which are random. */
export function segmentObjectName(segment: SegmentId): string {
  return `segments/${segment.slice(-2)}/${segment}.seg`
}

/** Whose the store is (../remote-marker.ts). */
export const REMOTE_MARKER_NAME = 'TIDEGATE'
