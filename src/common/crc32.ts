/**
 * CRC-32, the checksum of pages (C14), by the faster of two twins: `native/checksums`, which multiplies without carry, or `zlib.crc32`,
 * which Node builds without the processor's help. They say the same: a native one that does not agree with zlib when it is
 * loaded is not used.
 *
 * Each thread takes what lies built when it loads this; `prepareCrc32` builds it. A thread that began earlier keeps to zlib.
 */
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { crc32 as zlibCrc32 } from 'node:zlib'
import { buildAddon, findAddon } from './native-addon.ts'

/** 0: read and all pages check; 1: one does not, or the file ends too early; or a negative errno. Blocks. */
type ReadPages = (
  descriptor: number,
  into: Uint8Array,
  position: number,
  pageBytes: number,
  pageCrcs: Uint32Array,
) => number

interface ChecksumAddon {
  readonly crc32: (bytes: Uint8Array, before: number) => number
  readonly readPages: ReadPages
}

/** Below, the call into the addon costs more than it saves. */
const NATIVE_BYTES_MIN = 256

let addon = loadBuilt()

/** `before`: of the bytes that come before these. */
export function crc32(bytes: Uint8Array, before = 0): number {
  if (addon === undefined || bytes.length < NATIVE_BYTES_MIN) return zlibCrc32(bytes, before)
  return addon.crc32(bytes, before)
}

/** Reads and checks pages in one blocking call; undefined where there is no such call. */
export function nativePageReader(): ReadPages | undefined {
  return addon?.readPages
}

/** A compiler that hangs holds nobody up: whoever starts meanwhile keeps to zlib. */
const BUILD_MS_MAX = 5_000

/** Builds the native twin where that has not been done, for this thread and those started later. Never rejects. */
export async function prepareCrc32(): Promise<void> {
  if (addon !== undefined) return
  const tooLong = new AbortController()
  const late = sleep(BUILD_MS_MAX, undefined, { ref: false, signal: tooLong.signal }).catch(() => undefined)
  await Promise.race([buildAddon('checksums'), late])
  tooLong.abort()
  addon = loadBuilt()
}

function loadBuilt(): ChecksumAddon | undefined {
  try {
    const path = findAddon('checksums')
    if (path === undefined) return undefined
    const loaded = createRequire(import.meta.url)(path) as Partial<ChecksumAddon>
    // A processor that cannot multiply so has no calls.
    return isWhole(loaded) && agreesWithZlib(loaded) ? loaded : undefined
  } catch {
    return undefined
  }
}

function isWhole(loaded: Partial<ChecksumAddon>): loaded is ChecksumAddon {
  return loaded.crc32 !== undefined && loaded.readPages !== undefined
}

/** At every length up to a few steps of the native twin, at any alignment, and continued. */
function agreesWithZlib(loaded: ChecksumAddon): boolean {
  const bytes = Uint8Array.from({ length: 512 }, (_, at) => Math.imul(at + 1, 2654435761) >>> 24)
  for (let length = 0; length < 480; length++) {
    const some = bytes.subarray(length % 16, (length % 16) + length)
    const before = Math.imul(length, 2654435761) >>> 0
    if (loaded.crc32(some, before) !== zlibCrc32(some, before)) return false
  }
  return true
}
