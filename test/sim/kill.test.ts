/** SIGKILL under load in its short form. The long one: npm run crash-test. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runKillRounds } from './kill-rounds.ts'

let directory: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidegate-kill-'))
})

afterEach(async () => {
  await rm(directory, { recursive: true, force: true })
})

test('after kill -9 under load every acknowledged object is there and intact', { timeout: 180_000 }, async () => {
  const { writes, checked } = await runKillRounds({
    data: join(directory, 'data'),
    rounds: 3,
    logFile: join(directory, 'log'),
  })
  expect(writes).toBeGreaterThan(10)
  expect(checked).toBeGreaterThan(10)
})
