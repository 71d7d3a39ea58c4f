/**
 * Mounts of two nodes that share their metadata in etcd: each sees what the other has done once it opens or looks anew, and neither takes away what the other has open.
 * Files are small enough to lie in the metadata, but for one that is read where it was written: the bytes of others are one node's.
 */
// needs: etcd
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { checkNamespace } from '../../model/check-namespace.ts'
import { runTidegate } from '../../support/command-line.ts'
import { errorLines } from '../../support/gateway-suite.ts'
import { storeOfNode } from '../../support/metadata-store.ts'
import { metadataPlace } from '../../support/metadata-switch.ts'
import { startMounted, type MountedGateway, type ShellResult } from '../../support/mounted-gateway.ts'
import { randomCredentials } from '../../support/gateway-process.ts'
import { sendSigned } from '../../support/signed-calls.ts'

const NAMESPACE = 'two nodes'
/** A node that looks on, and takes nothing over. */
const ONLOOKER = 99
const START_MS_MAX = 240_000
const WITHIN = { timeout: 20_000, interval: 100 }
const FLAGS = ['--cache-memory', '64MiB', '--hash-workers', '1', '--segment-age', '200ms', '--buckets', 'first']

describe.skipIf(unmetNeeds() !== undefined)('mounts of two nodes', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'tidegate-two-nodes-'))
  let one: MountedGateway
  let other: MountedGateway

  beforeAll(async () => {
    const { endpoint, prefix } = await metadataPlace(NAMESPACE)
    const flags = ['--meta', `etcd://${new URL(endpoint).host}${prefix}`, ...FLAGS]
    const root = randomCredentials()
    one = await startMounted(flags, { root, data: join(scratch, 'one') })
    other = await startMounted(flags, { root, data: join(scratch, 'other') })
  }, START_MS_MAX)
  afterAll(async () => {
    await Promise.all([one?.stop(), other?.stop()])
    rmSync(scratch, { recursive: true, force: true })
  })

  const on = async (node: MountedGateway, script: string): Promise<string> => {
    const { code, stdout, stderr } = await node.shell(script, 'first')
    expect([code, stderr], script).toEqual([0, ''])
    return stdout
  }

  /** Runs in the background with a file open as 3, until a file `done` is made in `first`. */
  const holding = async (
    node: MountedGateway,
    file: string,
    then: string,
  ): Promise<{ end(): Promise<ShellResult> }> => {
    const script = `exec 3<> ${file}; touch opened; while [ ! -e done ]; do sleep 0.05; done; ${then}`
    const running = node.shell(script, 'first')
    await expect.poll(() => on(node, 'ls'), WITHIN).toContain('opened')
    return {
      end: async () => {
        await on(node, 'touch done')
        const result = await running
        await on(node, 'rm opened done')
        return result
      },
    }
  }

  /** Holds a file open whatever becomes of the mount, until `release`. */
  const released = join(scratch, 'released')
  const untilReleased = (file: string): string =>
    `exec 3< ${file}; touch opened; while [ ! -e ${released} ]; do sleep 0.1; done`
  const release = async (holder: Promise<unknown>): Promise<void> => {
    writeFileSync(released, '')
    await holder
    rmSync(released)
  }

  const rows = async (): Promise<Record<string, number>> => {
    const store = await storeOfNode(NAMESPACE, ONLOOKER)
    await store.start()
    try {
      return { ...(await checkNamespace(store)) }
    } finally {
      await store.stop()
    }
  }

  const tidegate = async (...args: readonly string[]): Promise<string> => {
    const { http, root } = one.gateway
    const credentials = { TIDEGATE_ROOT_USER: root.accessKey, TIDEGATE_ROOT_PASSWORD: root.secretKey }
    const { code, output } = await runTidegate([...args], { TIDEGATE_GATEWAY: http, ...credentials })
    expect([code, output], args.join(' ')).toEqual([0, expect.any(String)])
    return output
  }

  it('show at the next open what the other has written and closed', async () => {
    for (let round = 0; round < 10; round++) {
      const [writer, reader] = round % 2 === 0 ? [one, other] : [other, one]
      await on(writer, `echo round ${round} > file`)
      expect(await on(reader, 'cat file; stat -c %s file')).toBe(`round ${round}\n8\n`)
      // In place, of the same size and of another.
      await on(writer, `printf 'ROUND ${round}\\n' 1<> file`)
      expect(await on(reader, 'cat file')).toBe(`ROUND ${round}\n`)
      await on(writer, `echo and more >> file`)
      expect(await on(reader, 'cat file')).toBe(`ROUND ${round}\nand more\n`)
    }
  })

  it('show it at the next open also where the file is open already', async () => {
    await on(one, 'echo old > seen')
    const held = await holding(other, 'seen', 'cat seen; cat <&3')
    await on(one, 'echo rather new >> seen')
    expect(await on(other, 'cat seen')).toBe('old\nrather new\n')
    expect((await held.end()).stdout).toBe('old\nrather new\nold\nrather new\n')
  })

  it('lock for each other: what was written under a lock is read by who has it next, without a close or a sync', async () => {
    const rounds = 25
    await on(one, 'printf 000000 > counter; touch lock')
    const byRange = `python3 -c "
import fcntl, os
file = os.open('counter', os.O_RDWR)
for _ in range(${rounds}):
    fcntl.lockf(file, fcntl.LOCK_EX)
    os.pwrite(file, b'%06d' % (int(os.pread(file, 6, 0)) + 1), 0)
    fcntl.lockf(file, fcntl.LOCK_UN)
"`
    const byFile = `for i in $(seq ${rounds}); do (flock 9; n=$(cat lines | wc -l); echo $n >> lines) 9>> lock; done`
    await Promise.all([one, other, one, other].map((node) => on(node, byRange)))
    expect(await on(other, 'cat counter')).toBe(String(4 * rounds).padStart(6, '0'))
    await on(one, 'touch lines')
    await Promise.all([one, other].map((node) => on(node, byFile)))
    const lines = Array.from({ length: 2 * rounds }, (_, line) => `${line}\n`)
    expect(await on(one, 'cat lines; rm counter lock lines')).toBe(lines.join(''))
  })

  it('list and rename the same names', async () => {
    await on(one, 'mkdir -p tree/a; for n in 1 2 3; do echo $n > tree/a/$n; done')
    expect(await on(other, 'ls tree/a; cat tree/a/*')).toBe('1\n2\n3\n1\n2\n3\n')
    await on(other, 'mv tree/a tree/b; mv tree/b/1 tree/b/4; rm tree/b/2; echo 5 > tree/b/5')
    expect(await on(one, 'find tree | sort; cat tree/b/4')).toBe('tree\ntree/b\ntree/b/3\ntree/b/4\ntree/b/5\n1\n')
    await on(one, 'mv tree/b/5 tree/b/3')
    expect(await on(other, 'ls tree/b; cat tree/b/3')).toBe('3\n4\n5\n')
    expect((await other.shell('cat tree/b/5', 'first')).stderr).toContain('No such file')
    await on(other, 'rm -r tree')
    expect(await on(one, 'ls')).not.toContain('tree')
  })

  it.each([
    ['removed', 'rm held'],
    ['replaced', 'echo new > made; mv made held'],
  ])(
    'C12, C27: a file that the other has %s stays for who has it open, and is gone with the close',
    async (_, script) => {
      await on(other, 'printf first > held')
      const before = await rows()
      const then = 'stat -L -c %h /dev/fd/3; cat <&3; echo -n second >&3; cat /dev/fd/3; sync -d /dev/fd/3'
      const held = await holding(other, 'held', then)
      await on(one, script)
      expect(await held.end()).toEqual({ code: 0, stderr: '', stdout: '0\nfirstfirstsecond' })
      await on(other, 'rm -f held')
      await expect.poll(rows, WITHIN).toMatchObject({ inodes: before['inodes']! - 1, contents: 0, dropped: 0 })
    },
  )

  it('C12: so do the bytes of a file that do not lie in the metadata', async () => {
    await on(other, 'head -c 3000000 /dev/urandom > large; sync large; cp large /tmp/tidegate-two-nodes-copy')
    const before = await rows()
    const held = await holding(other, 'large', 'cmp /dev/fd/3 /tmp/tidegate-two-nodes-copy && echo same')
    const { status } = await sendSigned(one.gateway, { method: 'DELETE', target: '/first/large' })
    expect(status).toBe(204)
    // Long enough for everything to be taken apart that may be.
    await on(one, 'for n in 1 2 3 4 5 6; do echo x > y; rm y; sleep 0.5; done')
    expect(await held.end()).toEqual({ code: 0, stderr: '', stdout: 'same\n' })
    await expect.poll(rows, WITHIN).toMatchObject({ inodes: before['inodes']! - 1, contents: 0, dropped: 0 })
    rmSync('/tmp/tidegate-two-nodes-copy')
  })

  it('C12: what a node had open when it was killed is collected when it is back', async () => {
    await on(other, 'echo gone > killed')
    const before = await rows()
    const holder = other.shell(untilReleased('killed'), 'first')
    await expect.poll(() => on(one, 'ls'), WITHIN).toContain('opened')
    await on(one, 'rm killed opened')
    await expect.poll(rows, WITHIN).toMatchObject({ inodes: before['inodes'] })
    await other.gateway.kill()
    await release(holder)
    expect(await rows()).toMatchObject({ inodes: before['inodes'] })
    await other.shell('true')
    await other.restart()
    await expect.poll(rows, WITHIN).toMatchObject({ inodes: before['inodes']! - 1, contents: 0, dropped: 0 })
    expect(await on(other, 'ls')).toBe(await on(one, 'ls'))
  })

  it('log no error', () => {
    expect([...errorLines(one.logFile), ...errorLines(other.logFile)]).toEqual([])
  })

  it(
    'C12, C23: a node that is removed for good is shut out, and what it had open is collected',
    { timeout: START_MS_MAX },
    async () => {
      await on(other, 'echo gone > left')
      const before = await rows()
      const holder = other.shell(untilReleased('left'), 'first')
      await expect.poll(() => on(one, 'ls'), WITHIN).toContain('opened')
      await on(one, 'rm left opened')
      await expect.poll(rows, WITHIN).toMatchObject({ inodes: before['inodes'] })
      const ended = once(other.gateway.child, 'exit')
      expect(await tidegate('node', 'list')).toBe('node 1 (this one)\nnode 2\n')
      expect(await tidegate('node', 'remove', '2')).toMatch(/^node 2 is out; 1 open files/)
      expect(await tidegate('node', 'list')).toBe('node 1 (this one)\n')
      await expect.poll(rows, WITHIN).toMatchObject({ inodes: before['inodes']! - 1, contents: 0, dropped: 0 })
      expect(await ended).toEqual([1, null])
      await release(holder)
      await expect(other.restart()).rejects.toThrow('ended with code 2')
      await on(one, 'echo alone > file; rm file')
    },
  )
})
