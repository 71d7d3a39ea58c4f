// needs: etcd fusermount3 python3
/** Two mounts of two gateways: what one closed the other finds at its next open, locks are seen across, and what a dead node had open is collected. */
import { randomBytes, hash } from 'node:crypto'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { BUCKET, SharedGateways } from '../support/three-gateways.ts'

const MIB = 1024 * 1024
const GRACE_MS = 3_000
/** The lease of a node that was killed, its grace, and work. */
const LOST_MS_MAX = 45_000

let gateways: SharedGateways
const children: ChildProcess[] = []

beforeAll(async () => {
  gateways = await SharedGateways.start({ mounts: true, flags: ['--node-grace', `${GRACE_MS}ms`] })
})

afterEach(async () => {
  for (const child of children.splice(0)) {
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
    child.kill('SIGKILL')
    await ended
  }
})

afterAll(() => gateways.end())

async function output(index: number, script: string): Promise<string> {
  const { code, stdout, stderr } = await gateways.shell(index, script)
  expect({ code, stderr }, script).toEqual({ code: 0, stderr: '' })
  return stdout
}

/** A program in a mount that says when it has come so far, and goes on when it is told to. */
async function python(index: number, script: string): Promise<{ readonly said: string; readonly child: ChildProcess }> {
  const directory = join(gateways.mountPoint(index), BUCKET)
  const child = spawn('python3', ['-u', '-c', script], { cwd: directory, stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  const [said] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return { said, child }
}

/** Takes a lock of the whole file, says so, and holds it until it is told to end. */
const holding = (call: string): string => `
import fcntl, sys
file = open('locked', 'a+')
fcntl.${call}(file, fcntl.LOCK_EX)
print('held')
sys.stdin.readline()
`

/** Whether a lock can be had at once. */
const trying = (call: string): string => `python3 -c "
import fcntl
file = open('locked', 'a+')
try:
  fcntl.${call}(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  print('had')
except BlockingIOError:
  print('refused')
"`

it('finds at each open what the other closed, in turns', async () => {
  for (let turn = 0; turn < 20; turn++) {
    const [writer, reader] = [turn % 2, (turn + 1) % 2]
    const text = `turn ${turn} `.repeat(1 + turn * 400)
    await output(writer, `printf %s ${JSON.stringify(text)} > turns`)
    expect(await output(reader, 'cat turns'), `turn ${turn}`).toBe(text)
  }
  await output(0, 'mkdir -p d && echo one > d/first && mv d/first d/second')
  expect(await output(1, 'ls d')).toBe('second\n')
  await output(1, 'rm d/second && rmdir d')
  expect(await output(0, 'ls -d d 2>/dev/null || echo gone')).toBe('gone\n')
})

it('reads what S3 put at a third gateway through both mounts at once', async () => {
  const body = randomBytes(20 * MIB)
  await gateways.s3(2).send(new PutObjectCommand({ Bucket: BUCKET, Key: 'large', Body: body }))
  const sums = await Promise.all([0, 1].map((index) => output(index, 'sha256sum < large')))
  for (const sum of sums) expect(sum.split(' ')[0]).toBe(hash('sha256', body, 'hex'))
})

it.each(['flock', 'lockf'])('%s: a lock of one is seen by the other, and had once it is let go', async (call) => {
  const { said, child } = await python(0, holding(call))
  expect(said).toBe('held')
  expect(await output(1, trying(call))).toBe('refused\n')
  const waiting = python(1, holding(call))
  child.stdin?.end()
  const { said: then, child: next } = await waiting
  expect(then).toBe('held')
  expect(await output(0, trying(call))).toBe('refused\n')
  next.stdin?.end()
  await once(next, 'exit')
  await expect.poll(() => output(0, trying(call)), { timeout: 10_000 }).toBe('had\n')
})

it('flock(1) waits for the other node', async () => {
  const { child } = await python(0, holding('flock'))
  expect((await gateways.shell(1, 'flock -n locked true')).code).toBe(1)
  const waited = gateways.shell(1, 'flock -w 20 locked echo mine')
  child.stdin?.end()
  expect(await waited).toMatchObject({ code: 0, stdout: 'mine\n' })
})

it('what a dead node had open without a name is collected, and its locks are let go', async () => {
  const { said } = await python(
    0,
    `${holding('flock').replace("print('held')", '').replace('sys.stdin.readline()', '')}
import os
open_file = open('doomed', 'w+b')
open_file.write(b'x' * 3000000)
open_file.flush()
os.fsync(open_file.fileno())
os.unlink('doomed')
print('open')
sys.stdin.readline()
`,
  )
  expect(said).toBe('open')
  expect(await output(1, 'ls doomed 2>/dev/null || echo gone')).toBe('gone\n')
  expect(await output(1, trying('flock'))).toBe('refused\n')
  const { node } = await gateways.status(0)
  await gateways.kill(0)
  await expect.poll(() => output(1, trying('flock')), { timeout: LOST_MS_MAX, interval: 500 }).toBe('had\n')
  // Whoever takes it out is told what was left: nothing.
  const removed = async (): Promise<string> => {
    const response = await fetch(`${gateways.of(1).http}/admin/v1/nodes/remove`, {
      method: 'POST',
      headers: { authorization: gateways.authorization, 'content-type': 'application/json' },
      body: JSON.stringify({ node: node.number }),
    })
    return response.ok ? JSON.stringify(await response.json()) : `refused: ${response.status}`
  }
  expect(await removed()).toMatch(/^(?:\{"files":0,"builds":0\}|refused: 400)$/)
})
