/** What the other doors change shows through the mount at once, although the kernel keeps names and attributes for a minute. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'
import { sendSigned } from '../../support/signed-calls.ts'

/** The kernel is told from another thread, after the other door has answered. */
const TOLD_MS = 300
const OPENED_MS_MAX = 10_000

describe.skipIf(unmetNeeds() !== undefined)('a change by S3', () => {
  let mounted: MountedGateway
  beforeAll(async () => {
    mounted = await startMounted(['--buckets', 'first'])
  })
  afterAll(() => mounted?.stop())

  async function s3(method: string, key: string, body?: string): Promise<string> {
    const call = { method, target: `/first/${key}`, ...(body === undefined ? {} : { body }) }
    const response = await sendSigned(mounted.gateway, call)
    expect(response.status, response.body.toString()).toBeLessThan(300)
    if (method !== 'GET') await new Promise((resolve) => setTimeout(resolve, TOLD_MS))
    return response.body.toString()
  }

  async function see(script: string): Promise<string> {
    const { stdout, stderr } = await mounted.shell(script, 'first')
    return (stdout + stderr).trim()
  }

  it('shows a new object where the mount had just seen none', async () => {
    expect(await see('cat new')).toContain('No such file')
    await s3('PUT', 'new', 'made by S3')
    expect(await see('cat new')).toBe('made by S3')
  })

  it('shows the directories that a key makes, and their end', async () => {
    expect(await see('ls deep')).toContain('No such file')
    await s3('PUT', 'deep/er/file', 'x')
    expect(await see('find deep | sort')).toBe('deep\ndeep/er\ndeep/er/file')
    await s3('DELETE', 'deep/er/file')
    expect(await see('ls deep')).toContain('No such file')
  })

  it('shows new content and size of an object that the kernel has cached', async () => {
    await s3('PUT', 'object', 'short')
    expect(await see('cat object; stat -c " %s" object')).toBe('short 5')
    await s3('PUT', 'object', 'rather longer')
    expect(await see('cat object; stat -c " %s" object')).toBe('rather longer 13')
    await s3('DELETE', 'object')
    expect(await see('cat object')).toContain('No such file')
  })

  it('leaves an open file as it was (C27)', async () => {
    await s3('PUT', 'held', 'old')
    const untilNew = 'for n in $(seq 200); do [ "$(cat held)" = new ] && break; sleep 0.05; done'
    const reading = mounted.shell(`exec 3< held; touch opened; ${untilNew}; cat <&3; cat held`, 'first')
    await expect.poll(() => see('ls opened'), { timeout: OPENED_MS_MAX }).toBe('opened')
    await s3('PUT', 'held', 'new')
    expect((await reading).stdout).toBe('oldnew')
  })

  it('goes the other way too: S3 has what was closed (C20)', async () => {
    await see('mkdir made; echo mount > made/file; mv made renamed')
    expect(await s3('GET', 'renamed/file')).toBe('mount\n')
    expect(await s3('GET', '?prefix=renamed/&list-type=2')).toContain('<Key>renamed/file</Key>')
    await see('rm -r renamed')
    expect(await s3('GET', '?prefix=renamed&list-type=2')).toContain('<KeyCount>0</KeyCount>')
  })
})
