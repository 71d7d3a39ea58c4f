/** What the files of the conformance suite share: the harness, and short ways to write and show rows. */
import { isTidegateError } from '../../src/common/errors.ts'
import type { ByteString, Revision } from '../../src/common/ids.ts'
import type { OrderedStore, Row } from '../../src/meta/ports.ts'

export interface OrderedStoreOptions {
  readonly operationsMax?: number
  readonly bytesMax?: number
  readonly forceRetry?: boolean
  readonly changeLogRevisionsMax?: number
  readonly loggedValueBytesMax?: number
}

export interface OrderedStoreHarness {
  /** Transactions that meet nowhere may share a revision (C3). */
  readonly sharedRevisions?: boolean
  /** A started store over storage of its own that is empty. */
  create(options: OrderedStoreOptions): Promise<OrderedStore>
  /** Stops the store and starts another over the same storage. */
  reopen(store: OrderedStore): Promise<OrderedStore>
  /** Stops every store and removes what they kept. */
  dispose(): Promise<void>
}

export type CreateStore = (options?: OrderedStoreOptions) => Promise<OrderedStore>

export const ALL = { start: 'Z' as ByteString, end: 'Z\xff\xff' as ByteString }

export const key = (text: string): ByteString => `Z${text}` as ByteString
export const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1')
export const text = (value: Uint8Array | undefined): string | undefined =>
  value === undefined ? undefined : Buffer.from(value).toString('latin1')
export const rowTexts = (rows: readonly Row[]): string[] => rows.map((row) => `${row.key.slice(1)}=${text(row.value)}`)

export async function put(store: OrderedStore, rows: Record<string, string>): Promise<Revision> {
  const committed = await store.transact(async (tx) => {
    for (const [name, value] of Object.entries(rows)) tx.put(key(name), bytes(value))
  })
  return committed.revision
}

/** The code that the promise rejects with. */
export async function codeOf(failing: Promise<unknown>): Promise<string> {
  const error: unknown = await failing.then(
    () => 'no error',
    (reason: unknown) => reason,
  )
  return isTidegateError(error) ? error.code : String(error)
}
