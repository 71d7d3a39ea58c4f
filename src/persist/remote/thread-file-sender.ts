/**
 * Uploads in a thread of their own: the engine's end of it.
 *
 * The SDK builds and signs a request as always. Its body is a `ThreadBody`, and where the SDK would send it, `sendFromThread` has the
 * thread send it instead, and hands the SDK the answer. Errors and answers are the same as those of the SDK's own connections.
 *
 * The thread is started when it is first needed. One that dies fails what it had, each of which may be tried again, and the next use starts
 * another. It never waits for anything but time, so one that does not answer for `STALLED_MS` is stuck (in a disk, say) and is ended.
 */
import { Readable } from 'node:stream'
import { Worker } from 'node:worker_threads'
import { unreachable } from '../../common/assert.ts'
import { workerEntry } from '../../common/worker-entry.ts'
import type { BodyControl, DigestKind, FileBody, FileRange, FileSender } from './file-sender.ts'
import type { PlaceInFile, RequestHead, SentAnswer, UploadCommand, UploadEnd, UploadReport } from './upload-messages.ts'

const PING_MS = 5_000
const STALLED_MS = 30_000

interface Task {
  readonly id: number
  readonly control: BodyControl | undefined
  readonly end: (end: UploadEnd) => void
}

export function createThreadFileSender(): FileSender {
  return new ThreadFileSender()
}

class ThreadFileSender implements FileSender {
  readonly #tasks = new Map<number, Task>()
  #worker: Worker | undefined
  #nextId = 1
  #heardMs = 0
  #watch: NodeJS.Timeout | undefined
  #stopped = false

  async digest(range: FileRange, kind: DigestKind): Promise<string> {
    const { ended } = this.#begin(undefined, (id) => ({ kind: 'digest', id, digest: kind, place: placeOf(range) }))
    const end = await ended
    if (end.kind === 'digested') return end.text
    throw errorOf(end)
  }

  body(range: FileRange, control: BodyControl): FileBody {
    const place = placeOf(range)
    return new ThreadBody((head) => {
      const isPaced = control.pace !== undefined
      const { id, ended } = this.#begin(control, (task) => ({ kind: 'send', id: task, head, place, isPaced }))
      return { ended, giveUp: () => this.#post({ kind: 'cancel', id }) }
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    const worker = this.#worker
    this.#died(worker, new Error('uploading has stopped'))
    await worker?.terminate()
  }

  #begin(
    control: BodyControl | undefined,
    command: (id: number) => UploadCommand,
  ): { readonly id: number; readonly ended: Promise<UploadEnd> } {
    const id = this.#nextId++
    const { promise: ended, resolve: end } = Promise.withResolvers<UploadEnd>()
    if (this.#stopped) {
      end({ kind: 'failed', id, isFile: false, code: undefined, message: 'uploading has stopped' })
      return { id, ended }
    }
    if (this.#tasks.size === 0) this.#setBusy()
    this.#tasks.set(id, { id, control, end })
    this.#worker ??= this.#start()
    this.#worker.ref()
    this.#post(command(id))
    return { id, ended }
  }

  #start(): Worker {
    const worker = new Worker(workerEntry(import.meta.url, 'upload-thread'), { name: 'tidegate-upload' })
    worker.on('message', (report: UploadReport) => {
      if (this.#worker !== worker) return
      this.#heardMs = performance.now()
      this.#reported(report)
    })
    worker.on('error', (error: Error) => this.#died(worker, error))
    worker.on('exit', (code) => this.#died(worker, new Error(`the upload thread ended with code ${code}`)))
    return worker
  }

  #post(command: UploadCommand): void {
    this.#worker?.postMessage(command)
  }

  #reported(report: UploadReport): void {
    switch (report.kind) {
      case 'pong':
        return
      case 'moved':
        return this.#tasks.get(report.id)?.control?.progress()
      case 'wants':
        return void this.#pace(report)
      case 'answered':
      case 'digested':
      case 'failed':
        return this.#ended(report)
      default:
        return unreachable(report, 'report of the upload thread')
    }
  }

  async #pace({ id, bytes }: { readonly id: number; readonly bytes: number }): Promise<void> {
    try {
      await this.#tasks.get(id)?.control?.pace?.(bytes)
      this.#post({ kind: 'go', id })
    } catch {
      // Given up while it waited for its turn.
      this.#post({ kind: 'cancel', id })
    }
  }

  #ended(end: UploadEnd): void {
    const task = this.#tasks.get(end.id)
    this.#tasks.delete(end.id)
    task?.end(end)
    if (this.#tasks.size === 0) this.#setIdle()
  }

  #died(worker: Worker | undefined, cause: Error): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    for (const { id } of this.#tasks.values()) {
      this.#ended({ kind: 'failed', id, isFile: false, code: undefined, message: cause.message })
    }
  }

  #setBusy(): void {
    this.#heardMs = performance.now()
    this.#watch = setInterval(() => {
      if (performance.now() - this.#heardMs > STALLED_MS) void this.#worker?.terminate()
      else this.#post({ kind: 'ping' })
    }, PING_MS).unref()
  }

  /** A thread that has nothing to do does not keep the process alive. */
  #setIdle(): void {
    clearInterval(this.#watch)
    this.#worker?.unref()
  }
}

function placeOf({ path, offset, bytes }: FileRange): PlaceInFile {
  return { path, offset, bytes }
}

function errorOf(end: UploadEnd): Error {
  if (end.kind !== 'failed') return new Error(`the upload thread answered with ${end.kind}`)
  const error = new Error(end.message)
  return end.code === undefined ? error : Object.assign(error, { code: end.code })
}

interface UnderWay {
  readonly ended: Promise<UploadEnd>
  readonly giveUp: () => void
}

/** A stream only by its looks: the SDK signs a stream's headers, and leaves its bytes alone. */
class ThreadBody extends Readable implements FileBody {
  readonly #begin: (head: RequestHead) => UnderWay
  #underWay: UnderWay | undefined
  failure: Error | undefined

  constructor(begin: (head: RequestHead) => UnderWay) {
    super()
    this.#begin = begin
    this.on('error', () => undefined)
  }

  override _read(): void {
    this.destroy(new Error('this body is sent by the upload thread'))
  }

  async send(head: RequestHead): Promise<SentAnswer> {
    // The SDK goes on with what it was about to do: finding credentials, for one, takes its time.
    if (this.destroyed) throw new Error('it was given up before it was sent')
    const underWay = this.#begin(head)
    this.#underWay = underWay
    const end = await underWay.ended
    this.#underWay = undefined
    if (end.kind === 'answered') return end.answer
    const error = errorOf(end)
    if (end.kind === 'failed' && end.isFile) this.failure = error
    throw error
  }

  async ended(): Promise<void> {
    this.destroy()
    const underWay = this.#underWay
    underWay?.giveUp()
    await underWay?.ended
  }
}

/** What the SDK is about to send. */
export interface SignedRequest {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number
  readonly method: string
  readonly path: string
  readonly query?: Readonly<Record<string, string | string[] | null>>
  readonly headers: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** The answer to a request with such a body; undefined: the SDK sends it. */
export async function sendFromThread(
  request: SignedRequest,
): Promise<{ statusCode: number; headers: Readonly<Record<string, string>>; body: Readable } | undefined> {
  const { protocol, hostname, port, method, path, query = {}, headers, body } = request
  if (!(body instanceof ThreadBody)) return undefined
  const search = queryText(query)
  const head = { protocol, hostname, port, method, path: search === '' ? path : `${path}?${search}`, headers }
  const { statusCode, headers: answered, body: bytes } = await body.send(head)
  return { statusCode, headers: answered, body: Readable.from([Buffer.from(bytes)]) }
}

function queryText(query: Readonly<Record<string, string | string[] | null>>): string {
  return Object.entries(query)
    .flatMap(([name, value]) => {
      const values = Array.isArray(value) ? value : [value]
      return values.map((one) => (one === null ? escaped(name) : `${escaped(name)}=${escaped(one)}`))
    })
    .join('&')
}

/** As SigV4 demands: RFC 3986's unreserved characters stay, and nothing else. */
function escaped(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`)
}
