import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Secret } from '../../../src/common/secret.ts'
import { rootUser } from '../../../src/config/credentials.ts'

let folder = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidegate-credentials-'))
})

afterEach(() => {
  rmSync(folder, { recursive: true })
})

it('makes credentials once, at random, for the owner alone (lesson 5.2.19)', async () => {
  const made = await rootUser(undefined, folder)
  expect(made.made).toBe(true)
  expect(made.accessKey).toMatch(/^[A-Z2-7]{20}$/)
  expect(made.secretKey.reveal()).toMatch(/^[\w-]{40}$/)
  expect(statSync(join(folder, 'credentials')).mode & 0o777).toBe(0o600)
  const again = await rootUser(undefined, folder)
  expect(again).toMatchObject({ accessKey: made.accessKey, made: false })
  expect(again.secretKey.reveal()).toBe(made.secretKey.reveal())
  rmSync(join(folder, 'credentials'))
  expect((await rootUser(undefined, folder)).secretKey.reveal()).not.toBe(made.secretKey.reveal())
})

it('takes what is given, and writes nothing down', async () => {
  const given = { accessKey: 'tide', secretKey: new Secret('given secret') }
  expect(await rootUser(given, folder)).toMatchObject({ accessKey: 'tide', made: false })
  expect(() => readFileSync(join(folder, 'credentials'))).toThrow('ENOENT')
})

it.each(['', '{', '{"accessKey":"a"}', '{"accessKey":1,"secretKey":"s3cr3t-text"}', '"s3cr3t-text'])(
  'refuses %j without showing it',
  async (text) => {
    writeFileSync(join(folder, 'credentials'), text)
    const error: unknown = await rootUser(undefined, folder).catch((failure: unknown) => failure)
    expect(error).toMatchObject({ name: 'ConfigError' })
    expect(String(error)).not.toContain('s3cr3t')
  },
)
