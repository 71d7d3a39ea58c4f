import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it } from 'vitest'
import {
  DataDirectoryInUse,
  DataDirectoryUnusable,
  openDataDirectory,
  openRestoredDirectory,
} from '../../../src/config/data-directory.ts'

let folder = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidegate-data-'))
})

afterEach(() => {
  rmSync(folder, { recursive: true })
})

const MODULE = fileURLToPath(new URL('../../../src/config/data-directory.ts', import.meta.url))

/** Another process that holds the directory until it is killed. */
async function holder(path: string): Promise<{ kill(signal: NodeJS.Signals): Promise<void> }> {
  const program = `
    const { openDataDirectory } = await import(${JSON.stringify(MODULE)})
    await openDataDirectory(${JSON.stringify(path)})
    console.log('held')
    setInterval(() => undefined, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return {
    async kill(signal) {
      const gone = once(child, 'exit')
      child.kill(signal)
      if (signal === 'SIGKILL') await gone
    },
  }
}

function locks(path: string): string[] {
  return readdirSync(path).filter((name) => name.startsWith('LOCK-'))
}

it('is made with mode 0700 and says its format', async () => {
  const path = join(folder, 'a', 'data')
  const directory = await openDataDirectory(path)
  expect(directory).toMatchObject({ path, fresh: true })
  expect(statSync(path).mode & 0o777).toBe(0o700)
  expect(JSON.parse(readFileSync(join(path, 'FORMAT'), 'utf8'))).toEqual({ format: 5, createdBy: 'tidegate' })
  await directory.close()
  expect(locks(path)).toEqual([])
  const again = await openDataDirectory(path)
  expect(again.fresh).toBe(false)
  await again.close()
})

it('is refused while another uses it, in this process and in others, and keeps the lock of the first', async () => {
  const first = await openDataDirectory(folder)
  await expect(openDataDirectory(folder)).rejects.toThrow(DataDirectoryInUse)
  await first.close()
  const other = await holder(folder)
  await expect(openDataDirectory(folder)).rejects.toThrow(`the data directory ${folder} is in use by another process`)
  expect(locks(folder)).toHaveLength(1)
  await other.kill('SIGKILL')
})

it('is taken over from a dead process, and not from a stopped one', async () => {
  const other = await holder(folder)
  await other.kill('SIGSTOP')
  await expect(openDataDirectory(folder)).rejects.toThrow(DataDirectoryInUse)
  await other.kill('SIGKILL')
  expect(locks(folder)).toHaveLength(1)
  const directory = await openDataDirectory(folder)
  expect(locks(folder)).toHaveLength(1)
  await directory.close()
})

it('goes to exactly one of many that start at once over a stale lock', async () => {
  for (let round = 0; round < 10; round++) {
    const dead = await holder(folder)
    await dead.kill('SIGKILL')
    const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => openDataDirectory(folder)))
    const held = outcomes.filter((outcome) => outcome.status === 'fulfilled')
    expect(held).toHaveLength(1)
    for (const outcome of held) await outcome.value.close()
  }
})

it('may have a path too long for a socket', async () => {
  const path = join(folder, 'x'.repeat(120), 'data')
  const directory = await openDataDirectory(path)
  expect(existsSync(join(path, 'FORMAT'))).toBe(true)
  expect(locks(path)).toHaveLength(1)
  await expect(openDataDirectory(path)).rejects.toThrow(DataDirectoryInUse)
  await directory.close()
})

it('refuses a newer format in words', async () => {
  writeFileSync(join(folder, 'FORMAT'), '{"format":6}')
  await expect(openDataDirectory(folder)).rejects.toThrow(/has format 6, written by a newer Tidegate/)
  expect(locks(folder)).toEqual([])
})

it.each([2, 3, 4])('raises format %i to 5, so that programs that know no newer one leave it alone', async (format) => {
  writeFileSync(join(folder, 'FORMAT'), JSON.stringify({ format, createdBy: 'tidegate' }))
  const directory = await openDataDirectory(folder)
  expect(directory.fresh).toBe(false)
  expect(JSON.parse(readFileSync(join(folder, 'FORMAT'), 'utf8'))).toEqual({ format: 5, createdBy: 'tidegate' })
  await directory.close()
})

it('refuses format 1, of builds from before the first release, in words', async () => {
  writeFileSync(join(folder, 'FORMAT'), '{"format":1}')
  await expect(openDataDirectory(folder)).rejects.toThrow(/has format 1, .* reads formats from 2 on/)
  expect(locks(folder)).toEqual([])
})

it.each(['', 'x', '{}', '{"format":"1"}', '{"format":0}'])('refuses the FORMAT %j', async (text) => {
  writeFileSync(join(folder, 'FORMAT'), text)
  await expect(openDataDirectory(folder)).rejects.toThrow(DataDirectoryUnusable)
})

it('refuses a directory that holds something else', async () => {
  mkdirSync(join(folder, 'photos'))
  await expect(openDataDirectory(folder)).rejects.toThrow(/holds photos and no FORMAT/)
  expect(existsSync(join(folder, 'FORMAT'))).toBe(false)
})

it('refuses a path that is a file', async () => {
  writeFileSync(join(folder, 'file'), '')
  await expect(openDataDirectory(join(folder, 'file'))).rejects.toThrow(/--data: cannot make .*file/)
})

it('a restore that was killed while it wrote its first note is run again in the same directory', async () => {
  writeFileSync(join(folder, 'RESTORING.new'), '{"holder":')
  const first = await openRestoredDirectory(folder)
  expect(first.note).toBeUndefined()
  await first.writeNote('noted')
  writeFileSync(join(folder, 'RESTORING.new'), 'of a later life')
  await first.close()
  const second = await openRestoredDirectory(folder)
  expect(second.note).toBe('noted')
  await second.finish()
  await second.close()
  expect(readdirSync(folder)).toEqual(['FORMAT'])
})
