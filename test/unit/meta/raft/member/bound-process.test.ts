// needs: setpriv
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { BoundProcess, programPath } from '../../../../../src/meta/raft/member/bound-process.ts'

const PARENT = join(import.meta.dirname, 'bound-parent-process.ts')
const BONDS = ['setpriv', 'shell'] as const

const pids: number[] = []

afterEach(() => {
  for (const pid of pids.splice(0)) if (isThere(pid)) process.kill(pid, 'SIGKILL')
})

function isThere(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
}

async function gone(pid: number): Promise<boolean> {
  for (let tries = 0; tries < 100 && isThere(pid); tries++) await new Promise((resolve) => setTimeout(resolve, 50))
  return !isThere(pid)
}

it.each(BONDS)('dies with a parent that is killed (%s)', async (bond) => {
  const parent = spawn(process.execPath, [PARENT, bond], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(parent.stdout, 'data')) as [Buffer]
  const pid = Number(String(line))
  pids.push(pid)
  expect(isThere(pid)).toBe(true)
  parent.kill('SIGKILL')
  await once(parent, 'exit')
  expect(await gone(pid)).toBe(true)
})

it.each(BONDS)('ends when it is told to, and says how (%s)', async (bond) => {
  const child = new BoundProcess('/bin/sleep', ['1000'], bond)
  child.errorOutput.resume()
  const pid = Number(await child.pid())
  pids.push(pid)
  expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain('1000')
  await child.signal('SIGTERM')
  const { code, signal } = await child.ended
  expect(signal ?? code).toBe(bond === 'setpriv' ? 'SIGTERM' : 143)
  await child.signal('SIGKILL')
  expect(isThere(pid)).toBe(false)
})

it.each(BONDS)('is handed none of the secrets of its parent, and no options by the environment (%s)', async (bond) => {
  process.env['ETCD_NAME'] = 'surprise'
  process.env['TIDEGATE_ROOT_PASSWORD'] = 'not for others'
  const child = new BoundProcess('/usr/bin/env', [], bond)
  delete process.env['ETCD_NAME']
  delete process.env['TIDEGATE_ROOT_PASSWORD']
  child.errorOutput.resume()
  expect(await child.ended).toEqual({ code: 0, signal: null })
  const other = new BoundProcess('/bin/sh', ['-c', 'env >&2'], bond)
  let text = ''
  for await (const chunk of other.errorOutput) text += String(chunk)
  expect(text).toContain('PATH=')
  expect(text).not.toMatch(/ETCD_NAME|PASSWORD/)
})

it('finds programs as a shell does', () => {
  expect(programPath('sh')).toMatch(/\/sh$/)
  expect(programPath('/bin/sh')).toBe('/bin/sh')
  expect(programPath('no-such-program')).toBeUndefined()
})
