/**
 * The named points of the path that a write takes from the socket to the remote store, each as a step of the parts that the engine is put
 * together from. A process that is told to die at one of them ends itself with SIGKILL when it passes there for the n-th time, so
 * nothing of what would follow happens: no promise settles, no buffer is flushed, no file is closed.
 *
 * `before X`: X was asked for, and has not begun. `after X`: X has happened, and whoever asked for it has not heard of it.
 */

export const CRASH_POINTS = [
  // The journal: bytes of bodies into the segment's file, then fdatasync.
  'before journal write',
  'after journal write',
  'before journal sync',
  'after journal sync',
  // Metadata: the barrier has passed and LMDB has not synced; it has synced and nobody has been told.
  'before metadata commit',
  'after metadata commit',
  // Seal: the footer into the file; its sync; the row that says so.
  'before seal',
  'after seal',
  'before mark sealed',
  'after mark sealed',
  // Upload of a segment: not begun, on its way, there but not acknowledged.
  'before upload',
  'during upload',
  'after upload',
  'before mark persisted',
  'after mark persisted',
  // What happens to the journal's file afterwards: it becomes cache, or goes.
  'before adopt',
  'after adopt',
  'before journal remove',
  'after journal remove',
  // Reclaim: object, then row.
  'before remote remove',
  'after remote remove',
  'before segment forgotten',
  'after segment forgotten',
  // Names: what the remote store is told of metadata.
  'before names delta',
  'after names delta',
  'before names base',
  'after names base',
  'before names record',
  'after names record',
  'before names remove',
  'after names remove',
] as const

export type CrashPoint = (typeof CRASH_POINTS)[number]

/** Called at every point; answers whether this is the passage at which the process is to end. */
export type Passing = (point: CrashPoint) => boolean

/** Ends the process as a power switch would, as far as the process is concerned. */
export function die(): never {
  process.kill(process.pid, 'SIGKILL')
  throw new Error('unreachable: the process has ended')
}

/** Ends the process at the `nth` passage of `point`. */
export function passingUntil(point: CrashPoint, nth: number): Passing {
  let left = nth
  return (passed) => passed === point && --left === 0
}

export function isCrashPoint(text: string): text is CrashPoint {
  return (CRASH_POINTS as readonly string[]).includes(text)
}
