/** Single values. */
import type { IncomingHttpHeaders } from 'node:http'
import { isKvError } from './errors.ts'
import { attributesFrom, etagFrom, numberFrom, putHeaders, readHeaders, timeFrom, writeHeaders } from './headers.ts'
import { queryOf, valuePath } from './names.ts'
import type { KvTransport } from './transport.ts'
import type {
  DeleteOptions,
  DeleteResult,
  GetOptions,
  HeadOptions,
  KvAttributes,
  KvStreamedValue,
  KvValue,
  PutBody,
  PutOptions,
  PutResult,
} from './types.ts'

export class KvValues {
  readonly #transport: KvTransport
  readonly #bucketPath: string

  constructor(transport: KvTransport, bucketPath: string) {
    this.#transport = transport
    this.#bucketPath = bucketPath
  }

  get(key: string, options: GetOptions): Promise<KvValue | undefined> {
    return orAbsent(async () => {
      const { headers, body } = await this.#transport.call(this.#read('GET', key, options))
      return { ...attributesFrom(headers), bytes: body, text: () => body.toString() }
    })
  }

  getStream(key: string, options: GetOptions): Promise<KvStreamedValue | undefined> {
    return orAbsent(async () => {
      const message = await this.#transport.open(this.#read('GET', key, options))
      return { ...attributesFrom(message.headers), body: message }
    })
  }

  head(key: string, options: HeadOptions): Promise<KvAttributes | undefined> {
    return orAbsent(async () => {
      const { headers } = await this.#transport.call(this.#read('HEAD', key, options))
      return attributesFrom(headers)
    })
  }

  async put(key: string, body: PutBody, options: PutOptions): Promise<PutResult> {
    const query = queryOf({ ttl: options.ttlSeconds, pin: options.pinSeconds })
    const { headers } = await this.#transport.call({
      method: 'PUT',
      path: valuePath(this.#bucketPath, key) + query,
      headers: putHeaders(options),
      body,
      idempotent: options.ifMatch === undefined && options.ifNoneMatch === undefined,
      signal: options.signal,
    })
    return {
      etag: etagFrom(headers),
      revision: revisionFrom(headers),
      expires: timeFrom(headers['x-tidegate-expires']),
      pinned: numberFrom(headers['x-tidegate-pinned']),
    }
  }

  async delete(key: string, options: DeleteOptions): Promise<DeleteResult> {
    const { headers } = await this.#transport.call({
      method: 'DELETE',
      path: valuePath(this.#bucketPath, key),
      headers: writeHeaders(options),
      idempotent: options.ifMatch === undefined,
      signal: options.signal,
    })
    return { existed: headers['x-tidegate-existed'] === 'true', revision: revisionFrom(headers) }
  }

  #read(method: 'GET' | 'HEAD', key: string, options: GetOptions): Parameters<KvTransport['call']>[0] {
    return {
      method,
      path: valuePath(this.#bucketPath, key) + queryOf({ pin: options.pinSeconds }),
      headers: readHeaders(options),
      idempotent: true,
      signal: options.signal,
    }
  }
}

function revisionFrom(headers: IncomingHttpHeaders): number {
  return Number(headers['x-tidegate-revision'])
}

/** A key without a value is an answer, not a failure. */
async function orAbsent<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if (isKvError(error, 'NoSuchKey')) return undefined
    throw error
  }
}
