/**
 * A mount being served: requests of the kernel in, answers out. The life of a request:
 *
 *   1. the channel delivers a batch of slots; each request is decoded where it lies (protocol/decode.ts);
 *   2. it begins to wait for its answer (answers.ts), with a deadline;
 *   3. its operation runs (operations.ts) on `Files` of the store, many at once: the kernel orders what must be in order, by its
 *      locks on inodes. Only a WRITE keeps its slot, until its bytes are copied; when all are kept the channel stops reading;
 *   4. the operation answers, or throws what is answered as an errno (protocol/errno.ts). What is neither the store's nor the
 *      protocol's error is logged and answered EIO; a broken invariant goes to `onBug` too.
 *
 * Beside that, changes by others become notifications (coherence.ts).
 */
import { randomBytes } from 'node:crypto'
import { AssertionFailed } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import type { Logger } from '../../common/logging.ts'
import type { Files, Objects, Reading } from '../../store/doors.ts'
import { Answers } from './answers.ts'
import type { FuseChannel, RequestSlot } from './channel/ports.ts'
import { Coherence } from './coherence.ts'
import { DirectoryCursors } from './directory-cursors.ts'
import { LockTable, type MountLocks } from './lock-table.ts'
import { MountMetrics } from './mount-metrics.ts'
import { OpenFiles } from './open-files.ts'
import { runOperation } from './operations.ts'
import type { MountState } from './operations/operation.ts'
import { RequestDecoder } from './protocol/decode.ts'
import { DirectoryReply } from './protocol/directory-reply.ts'
import { ERRNO, errnoOf } from './protocol/errno.ts'
import { expectsReply } from './protocol/opcodes.ts'
import type { DecodedRequest, FuseRequest, RequestHeader } from './protocol/requests.ts'
import { SharedLocks } from './shared-locks.ts'
import type { MountStatistics } from './virtual/statistics.ts'
import { VirtualTree } from './virtual/tree.ts'

/** Time for one request. Shorter than what makes the kernel report a hung task (120 s), longer than the store's own waits (C19). */
const ANSWER_MS_MAX = 60_000
const EXPIRE_INTERVAL_MS = 1_000

export interface SessionOptions {
  readonly channel: Pick<FuseChannel, 'start' | 'keep' | 'release' | 'reply' | 'notify'>
  readonly files: Files
  readonly reading: Pick<Reading, 'view' | 'release'>
  /** How the flat views under `.tidegate/kv` make and remove keys. */
  readonly objects: Pick<Objects, 'put' | 'delete'>
  readonly metrics?: MountMetrics
  /** What `.tidegate/stats` shows beside the metrics. */
  readonly statistics?: MountStatistics
  /** Whether no other mount shows the same files; so unless it says otherwise. */
  readonly isAlone?: () => boolean
  readonly clock: Clock
  readonly log: Logger
  /** A broken invariant: nothing that follows can be trusted. */
  readonly onBug: (error: unknown) => void
  readonly onInit?: () => void
  readonly answerMsMax?: number
}

export class FuseSession {
  readonly #options: SessionOptions
  readonly #mount: MountState
  readonly #metrics: MountMetrics
  /** By slot. */
  readonly #decoders: (RequestDecoder | undefined)[] = []
  #endChanges: () => void = () => undefined
  #expiring: NodeJS.Timeout | undefined

  constructor(options: SessionOptions) {
    this.#options = options
    const { channel, files, reading, objects, clock, log } = options
    const openFiles = new OpenFiles()
    const metrics = (this.#metrics = options.metrics ?? new MountMetrics())
    const owner = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 }
    const virtual = new VirtualTree({ files, objects, clock, owner })
    const notify: FuseChannel['notify'] = (message) => {
      metrics.notified()
      return channel.notify(message)
    }
    const coherence = new Coherence({
      channel: { notify },
      clock,
      log,
      isWritten: (inode) => openFiles.isWritten(inode),
      isAlone: () => this.#isAlone(),
    })
    this.#mount = {
      files,
      reading,
      answers: new Answers({
        channel,
        clock,
        log,
        deadlineMs: options.answerMsMax ?? ANSWER_MS_MAX,
        onError: (errno) => metrics.failed(errno),
      }),
      coherence,
      isAlone: () => this.#isAlone(),
      locks: locksOf(options, coherence),
      openFiles,
      cursors: new DirectoryCursors(virtual),
      listing: new DirectoryReply(),
      onInit: options.onInit ?? (() => undefined),
      virtual,
      metrics,
      statistics: options.statistics ?? { figures: () => [] },
      log,
    }
  }

  /** Where nodes share the files, their mounts may show them at any time. */
  #isAlone(): boolean {
    const { files, isAlone } = this.#options
    return files.locks === undefined && (isAlone?.() ?? true)
  }

  start(): void {
    const { channel, files } = this.#options
    this.#endChanges = files.onChanges((changes) => this.#mount.coherence.changed(changes))
    this.#expiring = setInterval(() => this.#mount.answers.expire(), EXPIRE_INTERVAL_MS)
    this.#expiring.unref()
    channel.start((batch) => {
      for (const slot of batch) this.#serve(slot)
    })
  }

  /** Once the channel delivers no more: closes what the kernel had open, which publishes what was written. */
  async stop(): Promise<void> {
    this.#endChanges()
    clearInterval(this.#expiring)
    const { files, openFiles, cursors } = this.#mount
    const closing = [...openFiles.handles(), ...cursors.handles()].map(async (handle) => {
      openFiles.closed(handle)
      cursors.close(handle)
      await files.release(handle)
    })
    for (const outcome of await Promise.allSettled(closing)) {
      if (outcome.status === 'rejected')
        this.#options.log.error({ error: outcome.reason as unknown }, 'a file of the mount could not be closed')
    }
    await this.#mount.locks.stop()
  }

  #serve(slot: RequestSlot): void {
    const decoder = (this.#decoders[slot.index] ??= new RequestDecoder(slot.bytes))
    const request: DecodedRequest = decoder.decode(0, slot.length)
    if (request.operation === 'MALFORMED') return this.#refuse(request.header, request.reason)
    const { header } = request
    const sinceMs = this.#options.clock.monotonicMs()
    if (expectsReply(header.opcode)) this.#mount.answers.expect(header, request.operation, sinceMs)
    if (request.operation === 'UNKNOWN') return void this.#mount.answers.error(header, ERRNO.ENOSYS)
    const running = this.#run(request, sinceMs)
    if (running === undefined || request.operation !== 'WRITE') return
    this.#options.channel.keep(slot)
    void running.finally(() => this.#options.channel.release(slot))
  }

  /** Undefined: it is done. Never rejects. */
  #run(request: FuseRequest, sinceMs: number): Promise<void> | undefined {
    try {
      const running = runOperation(request, this.#mount)
      if (running !== undefined) return this.#runOn(request, running, sinceMs)
    } catch (error) {
      this.#failed(request, error)
    }
    this.#ended(request, sinceMs)
    return undefined
  }

  async #runOn(request: FuseRequest, running: Promise<void>, sinceMs: number): Promise<void> {
    try {
      await running
    } catch (error) {
      this.#failed(request, error)
    }
    this.#ended(request, sinceMs)
  }

  #ended({ header, operation }: FuseRequest, sinceMs: number): void {
    this.#metrics.answered(header.opcode, this.#options.clock.monotonicMs() - sinceMs)
    if (!this.#mount.answers.isWaiting(header) || !expectsReply(header.opcode)) return
    // Unless the kernel has given the number to another request meanwhile, which it does not before this one is answered.
    this.#options.onBug(new AssertionFailed(`${operation} gave no answer`))
    this.#mount.answers.error(header, ERRNO.EIO)
  }

  #failed({ header, operation }: FuseRequest, error: unknown): void {
    const { log, onBug } = this.#options
    const errno = errnoOf(error)
    if (errno === undefined || errno === ERRNO.EIO) {
      log.error({ error, operation, nodeId: header.nodeId }, 'a request of the mount failed')
    }
    this.#mount.answers.error(header, errno ?? ERRNO.EIO)
    if (error instanceof AssertionFailed) onBug(error)
  }

  #refuse(header: RequestHeader | undefined, reason: string): void {
    this.#options.log.error({ opcode: header?.opcode, reason }, 'a malformed request came from the kernel')
    if (header === undefined || !expectsReply(header.opcode)) return
    this.#mount.answers.expect(header, 'MALFORMED', this.#options.clock.monotonicMs())
    this.#mount.answers.error(header, ERRNO.EINVAL)
  }
}

function locksOf({ files, clock, log }: SessionOptions, coherence: Coherence): MountLocks {
  const { locks } = files
  if (!locks) return new LockTable()
  const session = randomBytes(8).toString('hex')
  return new SharedLocks({ locks, session, clock, log, told: () => coherence.told() })
}
