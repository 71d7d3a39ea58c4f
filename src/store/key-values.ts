/** What the KV door asks beside single puts, gets and deletes (see doors.ts, KeyValues). */
import type { Clock } from '../common/clock.ts'
import type { Revision } from '../common/ids.ts'
import type { ObjectVersion } from '../common/model.ts'
import type { Memory } from './byte-ports.ts'
import type { KeyValues, Objects } from './doors.ts'
import type { ScannedValue, ScanPage, ScanRequest, TransactionRequest, TransactionResult } from './kv-types.ts'
import { pinObject, unpinObject } from './pins.ts'
import { transact, type TransactParts } from './transact.ts'
import type { ObjectAddress, ReaderId } from './types.ts'

export interface KeyValuesParts extends TransactParts {
  readonly objects: Objects
  readonly memory: Memory
  readonly clock: Clock
}

export class StoreKeyValues implements KeyValues {
  readonly #parts: KeyValuesParts

  constructor(parts: KeyValuesParts) {
    this.#parts = parts
  }

  transact(request: TransactionRequest): Promise<TransactionResult> {
    return transact(this.#parts, request)
  }

  async scan(request: ScanRequest): Promise<ScanPage> {
    const { metadata, readers } = this.#parts
    const holder = readers.begin(metadata.revision())
    try {
      const { keys, next, revision } = await metadata.scan(request)
      // Nothing fails once the first reader is open, so none is left behind.
      const withValues = keys.map(({ version, ...listed }) => ({
        ...listed,
        value: version && this.#value(version, holder),
      }))
      return { keys: withValues, next, revision }
    } finally {
      readers.close(holder)
    }
  }

  #value(version: ObjectVersion, holder: ReaderId): ScannedValue {
    const { attributes, body } = version
    if (body.kind === 'inline') return { attributes, body }
    return { attributes, body: { kind: 'content', reader: this.#parts.readers.openWith(holder, version) } }
  }

  async exist(bucket: string, keys: readonly string[]): Promise<{ exist: readonly boolean[]; revision: Revision }> {
    const { present, revision } = await this.#parts.metadata.presence(bucket, keys, false)
    return { exist: present, revision }
  }

  async countLeading(bucket: string, keys: readonly string[]): Promise<{ count: number; revision: Revision }> {
    const { present, revision } = await this.#parts.metadata.presence(bucket, keys, true)
    const missing = present.indexOf(false)
    return { count: missing < 0 ? present.length : missing, revision }
  }

  async pin(address: ObjectAddress, durationMs: number): Promise<{ bytes: number }> {
    const { objects, readers, clock } = this.#parts
    const { reader, version } = await objects.open(address, {})
    try {
      if (durationMs > 0) return { bytes: await pinObject(this.#parts, version, clock.monotonicMs() + durationMs) }
      await unpinObject(this.#parts, version)
      return { bytes: 0 }
    } finally {
      readers.close(reader)
    }
  }
}
