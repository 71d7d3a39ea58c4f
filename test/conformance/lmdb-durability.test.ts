/** What only the real LMDB file can show: system calls, killed processes, full disks. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { isTidegateError } from '../../src/common/errors.ts'
import type { ByteString } from '../../src/common/ids.ts'
import { createLmdbStore } from '../../src/meta/lmdb/lmdb-store.ts'
import { readSyncTrace } from './sync-trace.ts'

const WRITER = join(import.meta.dirname, 'lmdb-writer.ts')
const hasStrace = spawnSync('strace', ['-V']).status === 0
const mayMount = process.getuid?.() === 0 && spawnSync('mount', ['--version']).status === 0

const directories: string[] = []

async function newDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'tidegate-lmdb-'))
  directories.push(directory)
  return directory
}

afterEach(async () => {
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true })
})

test('a call that strace prints in two halves, since another thread came between, counts as one printed whole', () => {
  const trace = [
    '1 openat(AT_FDCWD, "/meta/data.mdb", O_RDWR|O_CREAT, 0664) = 22',
    '1 openat(AT_FDCWD, "/meta/data.mdb", O_WRONLY|O_DSYNC|O_CLOEXEC) = 23',
    '2 pwrite64(22, "\\2\\0"..., 4096, 8192) = 4096',
    '2 fdatasync(22 <unfinished ...>',
    '1 write(9, "\\1", 1)                       = 1',
    '2 <... fdatasync resumed>)              = 0',
    '2 pwrite64(23, "\\0\\0"..., 128, 40 <unfinished ...>',
    '1 write(9, "\\1", 1)                       = 1',
    '2 <... pwrite64 resumed>)               = 128',
    '1 write(1, "durable 0 1\\n", 12)          = 12',
  ]
  expect(readSyncTrace(trace.join('\n'), 'data.mdb')).toEqual({ linesPrinted: 1, syncs: 1, tooEarly: [] })
  const withoutMeta = trace.filter((line) => !line.includes('pwrite64(23') && !line.includes('pwrite64 resumed'))
  expect(readSyncTrace(withoutMeta.join('\n'), 'data.mdb').tooEarly).toEqual(['line 1: nothing was committed for it'])
})

const TRACED_CALLS = 'openat,close,write,writev,pwrite64,pwritev,fdatasync,fsync,msync'

describe.skipIf(!hasStrace && process.env['CI'] === undefined)('system calls', () => {
  test('a commit is durable only after its pages were synced and its root was written through O_DSYNC', async () => {
    const directory = await newDirectory()
    const traceFile = join(directory, 'trace')
    const writer = [process.execPath, WRITER, join(directory, 'meta'), '20', '1']
    execFileSync('strace', ['-f', '-s', '32', '-e', `trace=${TRACED_CALLS}`, '-o', traceFile, ...writer])
    const trace = await readFile(traceFile, 'utf8')
    const read = readSyncTrace(trace, 'data.mdb')
    expect(read).toMatchObject({ linesPrinted: 20, tooEarly: [] })
    expect(read.syncs).toBeGreaterThanOrEqual(20)

    const created = /openat\(.*\/meta\/data\.mdb", O_RDWR\|O_CREAT/.exec(trace)
    const directorySync = /openat\(.*\/meta", O_RDONLY[\s\S]*?fsync\(\d+\)? *(= 0|<unfinished)/.exec(trace)
    const firstLine = trace.indexOf('"durable 0')
    expect(created!.index, 'the new file’s directory entry is synced').toBeLessThan(directorySync!.index)
    expect(directorySync!.index).toBeLessThan(firstLine)

    const withoutSyncs = trace.replaceAll(/^.*(fdatasync|fsync)[( ].*$/gm, '')
    expect(readSyncTrace(withoutSyncs, 'data.mdb').tooEarly.length, 'the reader sees missing syncs').toBeGreaterThan(0)
    const withoutMeta = trace.replaceAll('|O_DSYNC', '')
    expect(readSyncTrace(withoutMeta, 'data.mdb').tooEarly.length, 'and an unsynced root').toBeGreaterThan(0)
  })
})

test('after kill -9 every commit that was said to be durable is there, whole', async () => {
  const directory = join(await newDirectory(), 'meta')
  const acknowledged = new Set<number>()
  let revisionMax = 0
  for (let round = 0; round < 6; round++) {
    const child = spawn(process.execPath, [WRITER, directory, '0', '32'], { stdio: ['ignore', 'pipe', 'inherit'] })
    let lines = 0
    for await (const line of createInterface({ input: child.stdout })) {
      const [word, n, revision] = line.split(' ')
      if (word !== 'durable') continue
      acknowledged.add(Number(n))
      expect(round > 0 && lines === 0 ? Number(revision) > revisionMax : true, 'revisions grow over restarts').toBe(
        true,
      )
      revisionMax = Math.max(revisionMax, Number(revision))
      if (++lines === 50 + 37 * round) child.kill('SIGKILL')
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')

    const store = createLmdbStore({ directory })
    await store.start()
    const next = Number(await store.read((view) => view.get('N\x01next' as ByteString)))
    for (let n = 0; n < next; n++) {
      const row = await store.read((view) => view.get(`R\x01${n}` as ByteString))
      const whole = Buffer.alloc(1 + ((n * 97) % 9000), n % 251)
      expect(row !== undefined && whole.equals(row), `row ${n}`).toBe(true)
    }
    expect(Math.max(...acknowledged)).toBeLessThan(next)
    await store.stop()
  }
})

describe.skipIf(!mayMount)('a full disk', () => {
  test('C20: fails the commit, keeps what was durable readable, lets deletes through and serves again', async (context) => {
    const directory = await newDirectory()
    const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', directory])
    if (mount.status !== 0) return context.skip('no right to mount')
    // The package prints the error it rejects with.
    const printed = vi.spyOn(console, 'error').mockImplementation(() => {})
    try {
      await fillAndEmpty(join(directory, 'meta'))
    } finally {
      printed.mockRestore()
      execFileSync('umount', [directory])
    }
  })
})

async function fillAndEmpty(directory: string): Promise<void> {
  const store = createLmdbStore({ directory })
  await store.start()
  const row = (n: number): ByteString => `R\x01${n}` as ByteString
  const write = async (n: number): Promise<void> => {
    const committed = await store.transact(async (tx) => tx.put(row(n), Buffer.alloc(100_000, n)))
    await committed.durable
  }
  const length = (n: number): Promise<number | undefined> =>
    store.read(async (view) => (await view.get(row(n)))?.length)
  const { written, failure } = await writeUntilFailure(write)
  expect(isTidegateError(failure, 'StorageFull'), String(failure)).toBe(true)
  expect(written).toBeGreaterThan(10)
  expect([await length(written), await length(written - 1), await length(0)]).toEqual([undefined, 100_000, 100_000])

  for (let n = 0; n < 5; n++) {
    const deleted = await store.transact(async (tx) => tx.delete(row(n)))
    await deleted.durable
  }
  await write(written)
  await store.drain()
  await store.stop()
  const reopened = createLmdbStore({ directory })
  await reopened.start()
  const found = await reopened.read(async (view) => (await view.get(row(written)))?.length)
  expect(found).toBe(100_000)
  expect(await reopened.read((view) => view.get(row(0)))).toBeUndefined()
  await reopened.stop()
}

async function writeUntilFailure(write: (n: number) => Promise<void>): Promise<{ written: number; failure: unknown }> {
  for (let written = 0; written < 1000; written++) {
    try {
      await write(written)
    } catch (failure) {
      return { written, failure }
    }
  }
  return { written: 1000, failure: undefined }
}
