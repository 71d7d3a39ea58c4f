/** A database in the mount, with a rollback journal, through `kill -9` of the gateway: what was committed is there, and it is whole. */
// needs: sqlite3
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { Random, testSeed } from '../../model/random.ts'
import { startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'
import { isLong } from './long.ts'

const SEED = testSeed()
const ROUNDS = isLong ? 20 : 2
const COMMITS_BEFORE_MS_MAX = 20_000
const LOAD_MS_MAX = 1500
const ENDED_MS_MAX = 10_000

/**
 * With a rollback journal a transaction is committed when its journal is unlinked, and only EXTRA syncs the directory after it
 * (sqlite.org/pragma.html#pragma_synchronous): with FULL the last one may be rolled back, here as on a disk that loses power.
 */
const PRAGMAS = 'PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA;'
const TABLES = `CREATE TABLE IF NOT EXISTS entries(n INTEGER PRIMARY KEY, data BLOB, more TEXT);
CREATE INDEX IF NOT EXISTS by_more ON entries(more);
CREATE TABLE IF NOT EXISTS total(n INTEGER);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);`

/** Two tables change together, pages are added, and now and then freed. */
function transaction(n: number): string {
  const removed = n % 5 === 0 ? `UPDATE entries SET data = NULL WHERE n = ${n - 4};` : ''
  return `BEGIN; INSERT INTO entries VALUES(${n}, randomblob(${100 + (n % 7) * 3000}), hex(randomblob(20))); ${removed}
    UPDATE total SET n = n + 1; COMMIT; SELECT 'committed', ${n};\n`
}

/** Commits until the database is gone. @returns the last number of which sqlite3 said that it is committed */
async function commitUntilKilled(
  mounted: MountedGateway,
  { from, loadMs }: { from: number; loadMs: number },
): Promise<number> {
  const database = join(mounted.mountPoint, 'first/database')
  const child = spawn('stdbuf', ['-oL', 'sqlite3', '-bail', database], { stdio: ['pipe', 'pipe', 'pipe'] })
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
  child.stdin.on('error', () => undefined)
  child.stdin.write(PRAGMAS + TABLES)
  for (let n = from + 1; n <= from + 5000; n++) child.stdin.write(transaction(n))
  child.stdin.end()
  let committed = from
  const begun = new Promise<void>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (!line.startsWith('committed|')) return
      committed = Number(line.split('|')[1])
      resolve()
    })
  })
  const end = once(child, 'exit')
  await Promise.race([begun, end, sleep(COMMITS_BEFORE_MS_MAX)])
  await Promise.race([sleep(loadMs), end])
  await mounted.gateway.kill()
  const inTime = await Promise.race([end.then(() => true), sleep(ENDED_MS_MAX).then(() => false)])
  child.kill('SIGKILL')
  expect(inTime, 'sqlite3 must not hang').toBe(true)
  expect(errors).toMatch(/disk I\/O error|unable to open database file|database is locked/)
  return committed
}

it.skipIf(unmetNeeds() !== undefined)(
  `C20: has every committed transaction after kill -9 (seed ${SEED})`,
  { timeout: 40_000 + ROUNDS * 20_000 },
  async () => {
    const random = new Random(SEED)
    const mounted = await startMounted(['--buckets', 'first', '--segment-size', '8MiB', '--segment-age', '200ms'])
    try {
      let committed = 0
      for (let round = 1; round <= ROUNDS; round++) {
        const last = await commitUntilKilled(mounted, { from: committed, loadMs: random.below(LOAD_MS_MAX) })
        expect(last).toBeGreaterThan(committed)
        await mounted.restart()
        const check = `sqlite3 database "PRAGMA integrity_check; SELECT max(n), count(*) FROM entries; SELECT n FROM total"`
        const { stdout, stderr } = await mounted.shell(check, 'first')
        const [integrity, counts = '', total] = stdout.trim().split('\n')
        const [max, count] = counts.split('|').map(Number)
        expect({ integrity, stderr }).toEqual({ integrity: 'ok', stderr: '' })
        // The one that was under way may have been committed, and nobody told.
        expect([last, last + 1]).toContain(max)
        expect({ count, total }).toEqual({ count: max, total: String(max) })
        committed = max ?? 0
      }
    } finally {
      await mounted.stop()
    }
  },
)
