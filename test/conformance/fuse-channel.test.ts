// needs: cc fusermount3
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { loadAddon } from '../../src/gateway/fuse/channel/addon.ts'
import { mountFuse } from '../../src/gateway/fuse/channel/mount.ts'
import { isDeadMount } from '../../src/gateway/fuse/channel/mount-table.ts'
import { REPOSITORY } from '../support/run-command.ts'
import { mountDirectory, OPTIONS, run, testFuseChannel } from './fuse-channel.ts'
import { unmetNeeds } from './fuse-needs.ts'

const unmet = unmetNeeds()
if (unmet !== undefined) console.log(`skipped: ${unmet}`)

describe.skipIf(unmet)('FUSE channel, node', () => testFuseChannel('node'))

describe.skipIf(unmet)('FUSE channel, addon', () => {
  it('is built and loads', async () => {
    expect((await loadAddon()).reason).toBeUndefined()
  })
  testFuseChannel('addon')
  testThreads()
  testOrdinaryUsers()
})

const WORKER = join(import.meta.dirname, 'fuse-worker-child.ts')

function testThreads(): void {
  it('serves in a worker thread; when that ends, the mount is dead and nothing hangs', async () => {
    const mountPoint = await mountDirectory()
    const worker = new Worker(WORKER, { workerData: { ...OPTIONS, mountPoint, fileBytes: 65_536 } })
    await once(worker, 'message')
    expect((await run('cat', join(mountPoint, 'file'))).length).toBe(65_536)
    await worker.terminate()
    expect(await isDeadMount(mountPoint)).toBe(true)
    await expect(run('ls', mountPoint)).rejects.toThrow('not connected')
  })

  it('shares a mount between threads by cloned descriptors', async () => {
    const mountPoint = await mountDirectory()
    const options = { ...OPTIONS, mountPoint, fileBytes: 65_536 }
    const channel = await mountFuse(options)
    // Nothing is read here: all that is answered, the worker answers.
    const { descriptor } = channel
    const worker = new Worker(WORKER, { workerData: { ...options, clone: { mountPoint, descriptor } } })
    try {
      await once(worker, 'message')
      expect((await run('cat', join(mountPoint, 'file'))).length).toBe(65_536)
      const exited = once(worker, 'exit')
      await channel.unmount()
      await exited
    } finally {
      await worker.terminate()
      await channel.close()
    }
  })
}

/** Nobody's, on Debian. */
const AS_OTHER_USER = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']

/**
 * Runs the rest of its arguments in a mount namespace whose /dev/fuse everybody may open. udev sees to that on ordinary
 * machines, and on others it is not for a test to change.
 */
const WITH_OPEN_DEVICE = `mount -t tmpfs tidegate "$0" && mknod "$0/fuse" c 10 229 && chmod 666 "$0/fuse" &&
mount --bind "$0/fuse" /dev/fuse && umount -l "$0" && exec "$@"`

function testOrdinaryUsers(): void {
  it.for(['addon', 'node'] as const)('ordinary users mount by fusermount3: %s', async (twin) => {
    const mountPoint = await mountDirectory()
    await chmod(join(mountPoint, '..'), 0o755)
    await chown(mountPoint, 65_534, 65_534)
    const serverCommand = [process.execPath, join(REPOSITORY, 'bench/fuse-null-server.ts'), mountPoint]
    const server = spawn(
      'unshare',
      ['-m', 'sh', '-c', WITH_OPEN_DEVICE, mountPoint, ...AS_OTHER_USER, ...serverCommand, JSON.stringify({ twin })],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    try {
      let message = ''
      server.stderr.on('data', (chunk: Buffer) => (message += chunk.toString()))
      const ended = once(server, 'close')
      if (twin === 'node') {
        await ended
        expect(message).toContain('only root can mount')
        return
      }
      await Promise.race([once(server.stdout, 'data'), ended.then(() => Promise.reject(new Error(message)))])
      const listed = await run('nsenter', '-t', String(server.pid), '-m', ...AS_OTHER_USER, 'ls', mountPoint)
      expect(listed.toString()).toBe('file\n')
      server.kill('SIGTERM')
      expect(await ended).toEqual([0, null])
    } finally {
      server.kill('SIGKILL')
    }
  })
}
