/**
 * The thread that uploads: this file is its entry, thread-file-sender.ts its owner, upload-messages.ts what they say.
 *
 * Files are read synchronously, a chunk at a time into a buffer that is used again: what is uploaded was written a moment ago, so the system
 * still has it in memory, and handing such a read to another thread costs more than the read.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { parentPort } from 'node:worker_threads'
import { must } from '../../common/assert.ts'
import { RangeDigest } from './file-sender.ts'
import type {
  DigestCommand,
  PlaceInFile,
  SendCommand,
  SentAnswer,
  UploadCommand,
  UploadReport,
} from './upload-messages.ts'

const CHUNK_BYTES = 256 * 1024
const BUFFERS_KEPT_MAX = 16
const CONNECT_MS_MAX = 10_000
const ANSWER_BYTES_MAX = 2 ** 20
const REPORT_EVERY_MS = 200

const port = must(parentPort, 'parent port of the upload thread')
const agents = { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) }
const underWay = new Map<number, { readonly cancel: () => void; readonly go: () => void }>()
const buffersKept: Buffer[] = []

port.on('message', (command: UploadCommand) => {
  switch (command.kind) {
    case 'send':
      return void new Sending(command).run()
    case 'digest':
      return void runDigest(command)
    case 'go':
      return underWay.get(command.id)?.go()
    case 'cancel':
      return underWay.get(command.id)?.cancel()
    case 'ping':
      return tell({ kind: 'pong' })
  }
})

function tell(report: UploadReport): void {
  port.postMessage(report)
}

class FileError extends Error {}

function failed(id: number, error: unknown): UploadReport {
  const { code, message } = error as NodeJS.ErrnoException
  return { kind: 'failed', id, isFile: error instanceof FileError, code, message }
}

class FileReader {
  readonly #descriptor: number
  #position: number
  #left: number

  constructor({ path, offset, bytes }: PlaceInFile) {
    this.#descriptor = inFile(() => openSync(path, 'r'))
    this.#position = offset
    this.#left = bytes
  }

  get nextBytes(): number {
    return Math.min(CHUNK_BYTES, this.#left)
  }

  /** The next chunk, at the beginning of the buffer. */
  next(buffer: Buffer): Buffer {
    const bytes = this.nextBytes
    for (let done = 0; done < bytes;) {
      const read = inFile(() => readSync(this.#descriptor, buffer, done, bytes - done, this.#position + done))
      if (read === 0) throw new FileError('it became shorter')
      done += read
    }
    this.#position += bytes
    this.#left -= bytes
    return buffer.subarray(0, bytes)
  }

  close(): void {
    closeSync(this.#descriptor)
  }
}

function inFile<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw new FileError((error as Error).message)
  }
}

async function runDigest({ id, digest: kind, place }: DigestCommand): Promise<void> {
  try {
    const reader = new FileReader(place)
    try {
      const digest = new RangeDigest(kind)
      const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
      while (reader.nextBytes > 0) {
        digest.update(reader.next(buffer))
        // Others have their turn in between.
        await nextTurn()
      }
      tell({ kind: 'digested', id, text: digest.text() })
    } finally {
      reader.close()
    }
  } catch (error) {
    tell(failed(id, error))
  }
}

class Sending {
  readonly #command: SendCommand
  readonly #over = Promise.withResolvers<never>()
  #request: ClientRequest | undefined
  #go: (() => void) | undefined
  #reportedMs = 0

  constructor(command: SendCommand) {
    this.#command = command
    // Nobody may be waiting for it when it comes.
    this.#over.promise.catch(() => undefined)
  }

  /** Never rejects. Tells the end once nothing of it is under way any more. */
  async run(): Promise<void> {
    const { id } = this.#command
    const end = (error: Error): void => {
      this.#over.reject(error)
      this.#request?.destroy(error)
    }
    underWay.set(id, { cancel: () => end(new Error('it was given up')), go: () => this.#go?.() })
    let report: UploadReport
    try {
      report = { kind: 'answered', id, answer: await this.#exchange() }
    } catch (error) {
      this.#request?.destroy()
      report = failed(id, error)
    }
    underWay.delete(id)
    tell(report)
  }

  async #exchange(): Promise<SentAnswer> {
    const { head, place } = this.#command
    const reader = new FileReader(place)
    try {
      const isSecure = head.protocol === 'https:'
      const { hostname: host, port: number, method, path, headers } = head
      const options = { host: host.replace(/^\[|\]$/g, ''), port: number, method, path, headers }
      const request = isSecure
        ? httpsRequest({ ...options, agent: agents.https })
        : httpRequest({ ...options, agent: agents.http })
      this.#request = request
      const answered = this.#answered(request)
      answered.catch(() => undefined)
      // A store that refuses answers before it has taken all of it.
      await Promise.race([this.#pump(request, reader), answered, this.#over.promise])
      const answer = await Promise.race([answered, this.#over.promise])
      // Of what was answered early the rest is not sent, and so the connection is of no use any more.
      if (!request.writableFinished) request.destroy()
      return answer
    } finally {
      reader.close()
    }
  }

  async #pump(request: ClientRequest, reader: FileReader): Promise<void> {
    const buffer = buffersKept.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES)
    while (reader.nextBytes > 0) {
      if (this.#command.isPaced) await this.#allowed(reader.nextBytes)
      if (request.destroyed) return
      const chunk = reader.next(buffer)
      await new Promise<void>((resolve, reject) => request.write(chunk, (error) => (error ? reject(error) : resolve())))
      this.#moved()
    }
    // Not after a failure: the system may still read what is in it.
    if (buffersKept.length < BUFFERS_KEPT_MAX) buffersKept.push(buffer)
    request.end()
  }

  async #allowed(bytes: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#go = resolve
    tell({ kind: 'wants', id: this.#command.id, bytes })
    await Promise.race([promise, this.#over.promise])
  }

  #moved(): void {
    const nowMs = performance.now()
    if (nowMs - this.#reportedMs < REPORT_EVERY_MS) return
    this.#reportedMs = nowMs
    tell({ kind: 'moved', id: this.#command.id })
  }

  #answered(request: ClientRequest): Promise<SentAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<SentAnswer>()
    request.on('error', reject)
    const onClose = (): void => reject(new Error('the connection was closed without an answer'))
    request.on('close', onClose)
    request.on('socket', (socket) => {
      if (!socket.connecting) return
      const giveUp = (): void => void request.destroy(new Error(`not connected after ${CONNECT_MS_MAX} ms`))
      const timer = setTimeout(giveUp, CONNECT_MS_MAX)
      const clear = (): void => clearTimeout(timer)
      socket.once('connect', clear).once('close', clear)
    })
    request.on('response', (response) => {
      // From here on the answer itself says what becomes of it.
      request.off('close', onClose)
      readAnswer(response).then(resolve, reject)
    })
    return promise
  }
}

async function readAnswer(response: IncomingMessage): Promise<SentAnswer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > ANSWER_BYTES_MAX) throw new Error(`the answer has more than ${ANSWER_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(response.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value
  }
  // A copy: buffers from the pool would travel with all of it.
  return { statusCode: response.statusCode ?? 0, headers, body: Uint8Array.from(Buffer.concat(chunks)) }
}
