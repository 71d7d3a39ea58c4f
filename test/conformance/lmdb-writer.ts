/**
 * A process for the durability tests to trace or kill. It writes numbered rows and prints a line for each once it is
 * durable: `durable N`. Arguments: directory, how many rows (0: until killed), how many at once.
 */
import { writeSync } from 'node:fs'
import type { ByteString } from '../../src/common/ids.ts'
import { createLmdbStore } from '../../src/meta/lmdb/lmdb-store.ts'

const [directory, count, atOnce] = process.argv.slice(2)
const store = createLmdbStore({ directory: directory! })
await store.start()

const NEXT = 'N\x01next' as ByteString
const last = Number(count) || Number.MAX_SAFE_INTEGER

async function writeRows(): Promise<void> {
  for (let written = 0; written < last; written++) {
    const committed = await store.transact(async (tx) => {
      const n = Number((await tx.get(NEXT)) ?? 0)
      tx.put(NEXT, Buffer.from(String(n + 1)))
      tx.put(`R\x01${n}` as ByteString, Buffer.alloc(1 + ((n * 97) % 9000), n % 251))
      return n
    })
    await committed.durable
    writeSync(1, `durable ${committed.value} ${committed.revision}\n`)
  }
}

writeSync(1, 'started\n')
await Promise.all(Array.from({ length: Number(atOnce) }, writeRows))
await store.drain()
await store.stop()
