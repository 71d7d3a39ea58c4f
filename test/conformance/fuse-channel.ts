/**
 * What every twin of the FUSE channel must do, tried through the kernel: programs in child processes use the mount, this process
 * serves it, and never touches it itself.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rmdir, symlink, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterEach, expect, it } from 'vitest'
import { mountFuse } from '../../src/gateway/fuse/channel/mount.ts'
import {
  cleanDeadMount,
  findMount,
  isDeadMount,
  tidegateMounts,
  unmountByProgram,
} from '../../src/gateway/fuse/channel/mount-table.ts'
import type { ChannelTwin, FuseChannel, MountOptions } from '../../src/gateway/fuse/channel/ports.ts'
import { REPOSITORY } from '../support/run-command.ts'
import { NullFileSystem, type NullOptions, OPCODE } from './fuse-null-file-system.ts'

const MIB = 1024 * 1024
const RUN_TIMEOUT_MS = 20_000
/** FUSE_NOTIFY_INVAL_INODE. */
const INVAL_INODE = 2

const directories: string[] = []
const channels: FuseChannel[] = []
const children: ChildProcess[] = []

export const OPTIONS: Omit<MountOptions, 'mountPoint'> = {
  name: 'null',
  allowOther: false,
  defaultPermissions: true,
  writeBytesMax: MIB,
  slotCount: 16,
  spinUsMax: 0,
}

/** A directory to mount on. What is mounted there is taken away after the test, however that ends. */
export async function mountDirectory(): Promise<string> {
  const directory = join(await mkdtemp(join(tmpdir(), 'tidegate-fuse-')), 'mount point')
  await mkdir(directory)
  directories.push(directory)
  return directory
}

/** What the program wrote; rejects when it fails. */
export async function run(program: string, ...args: string[]): Promise<Buffer> {
  const options = { encoding: 'buffer', timeout: RUN_TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: 64 * MIB } as const
  const { stdout } = await promisify(execFile)(program, args, { ...options, env: { ...process.env, LC_ALL: 'C' } })
  return stdout
}

export async function clearMounts(): Promise<void> {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const directory of directories.splice(0)) {
    while ((await findMount(directory)) !== undefined) await unmountByProgram(directory, { lazy: true, force: true })
    await rmdir(directory)
    await rmdir(join(directory, '..'))
  }
  for (const channel of channels.splice(0)) await channel.close()
  const left = readFileSync('/proc/mounts', 'utf8')
  expect(left.includes('tidegate-fuse-') && (await tidegateMounts()).map(({ mountPoint }) => mountPoint)).toBe(false)
}

/** A server in a process of its own, serving. */
async function serverProcess(mountPoint: string, options: object): Promise<ChildProcess> {
  const child = spawn(
    process.execPath,
    [join(REPOSITORY, 'bench/fuse-null-server.ts'), mountPoint, JSON.stringify(options)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  children.push(child)
  await once(child.stdout, 'data')
  return child
}

interface Served {
  readonly channel: FuseChannel
  readonly files: NullFileSystem
  readonly file: string
  readonly mountPoint: string
}

async function serve(twin: ChannelTwin, options: Partial<NullOptions & MountOptions> = {}): Promise<Served> {
  const mountPoint = await mountDirectory()
  const all = { ...OPTIONS, fileBytes: 4 * MIB, ...options, mountPoint, twin }
  const channel = await mountFuse(all)
  channels.push(channel)
  const files = new NullFileSystem(channel, all)
  files.start()
  return { channel, files, file: join(mountPoint, 'file'), mountPoint }
}

const waitFor = async (what: string, holds: () => boolean | Promise<boolean>): Promise<void> => {
  for (const end = Date.now() + RUN_TIMEOUT_MS; !(await holds()); await sleep(5)) {
    if (Date.now() > end) throw new Error(`timed out: ${what}`)
  }
}

export function testFuseChannel(twin: ChannelTwin): void {
  afterEach(clearMounts)
  testTransfers(twin)
  testReplies(twin)
  testEnds(twin)
}

function testTransfers(twin: ChannelTwin): void {
  it('answers INIT, LOOKUP, GETATTR, READDIR and READ', async () => {
    const { files, file, mountPoint, channel } = await serve(twin)
    expect(channel.twin).toBe(twin)
    expect(channel.mountPoint).toBe(mountPoint)
    expect((await run('ls', mountPoint)).toString()).toBe('file\n')
    expect((await run('cat', file)).equals(files.content)).toBe(true)
    await expect(run('cat', join(mountPoint, 'absent'))).rejects.toThrow('No such file or directory')
    expect(files.counts.get(OPCODE.INIT)).toBe(1)
  })

  it('takes writes of 1 MiB in one request each', async () => {
    const { files, file } = await serve(twin, { directIo: true })
    const source = join(await mkdtemp(join(tmpdir(), 'tidegate-source-')), 'bytes')
    const bytes = Buffer.from(files.content).reverse()
    await writeFile(source, bytes)
    try {
      await run('dd', `if=${source}`, `of=${file}`, 'bs=1M', 'conv=notrunc', 'status=none')
    } finally {
      await unlink(source)
      await rmdir(join(source, '..'))
    }
    expect(files.counts.get(OPCODE.WRITE)).toBe(4)
    expect(files.content.equals(bytes)).toBe(true)
  })

  it('serves many requests at once', async () => {
    const { files, file } = await serve(twin, { directIo: true, delayMs: 20 })
    const readers = Array.from({ length: 48 }, async (_, index) => {
      const block = index * 3
      const bytes = await run('dd', `if=${file}`, 'bs=4096', 'count=8', `skip=${block}`, 'status=none')
      expect(bytes.equals(files.content.subarray(block * 4096, (block + 8) * 4096))).toBe(true)
    })
    await Promise.all(readers)
    expect(files.counts.get(OPCODE.READ)).toBeGreaterThanOrEqual(48 * 8)
  })

  it('keeps slots while writes are under way, and reads no more when all are kept', async () => {
    const { files, file } = await serve(twin, { directIo: true, delayMs: 10, slotCount: 2 })
    const fill = (index: number): Promise<Buffer> =>
      run(
        'sh',
        '-c',
        `head -c 65536 /dev/zero | tr '\\0' '\\${(65 + index).toString(8)}' | \
dd of="${file}" bs=65536 iflag=fullblock seek=${index} conv=notrunc status=none`,
      )
    await Promise.all(Array.from({ length: 16 }, (_, index) => fill(index)))
    const expected = Buffer.concat(Array.from({ length: 16 }, (_, index) => Buffer.alloc(65_536, 65 + index)))
    expect(files.content.subarray(0, expected.length).equals(expected)).toBe(true)
    expect(files.batchMax).toBeLessThanOrEqual(2)
  })

  it('sets how far the kernel reads ahead', async () => {
    const { channel, mountPoint, file } = await serve(twin)
    await run('cat', file)
    expect(await channel.setReadAheadKib(4096)).toBe(true)
    const device = (await findMount(mountPoint))?.device ?? ''
    expect(readFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, 'utf8')).toBe('4096\n')
  })
}

/** A reply's header, with nothing behind it. */
function replyHead(slotWords: Uint32Array, lengthBytes: number, errno: number): Buffer {
  const head = Buffer.alloc(16)
  head.writeUInt32LE(lengthBytes, 0)
  head.writeInt32LE(-errno, 4)
  head.writeUInt32LE(slotWords[2] ?? 0, 8)
  head.writeUInt32LE(slotWords[3] ?? 0, 12)
  return head
}

/** struct fuse_notify_inval_inode_out behind a header whose `unique` is 0: the pages of a whole file. */
function invalidation(node: number): Buffer {
  const message = Buffer.alloc(40)
  message.writeUInt32LE(message.length, 0)
  message.writeInt32LE(INVAL_INODE, 4)
  message.writeUInt32LE(node, 16)
  return message
}

function testReplies(twin: ChannelTwin): void {
  it('says that nobody waits for a second reply, and refuses a malformed one', async () => {
    const mountPoint = await mountDirectory()
    const channel = await mountFuse({ ...OPTIONS, mountPoint, twin })
    channels.push(channel)
    const outcome = Promise.withResolvers<unknown[]>()
    channel.start(([slot]) => {
      if (slot === undefined) return outcome.resolve([])
      const attempt = (lengthBytes: number): unknown => {
        try {
          return channel.reply(replyHead(slot.words, lengthBytes, 38))
        } catch (error) {
          return error
        }
      }
      outcome.resolve([slot.words[1], attempt(20), attempt(16), attempt(16)])
    })
    const [opcode, malformed, good, second] = await outcome.promise
    expect(opcode).toBe(OPCODE.INIT)
    expect(malformed).toMatchObject({ code: 'Internal', details: { errno: 'EINVAL' } })
    expect(good).toBe(true)
    expect(second).toBe(false)
  })

  it('goes on after an interrupted request', async () => {
    const { files, file } = await serve(twin, { directIo: true, delayMs: 300 })
    const reader = spawn('dd', [`if=${file}`, 'of=/dev/null', 'bs=4096', 'count=1'], { stdio: 'ignore' })
    children.push(reader)
    await waitFor('a read', () => files.counts.has(OPCODE.READ))
    reader.kill('SIGKILL')
    await once(reader, 'exit')
    await waitFor('an interrupt', () => files.counts.has(OPCODE.INTERRUPT))
    expect((await run('head', '-c', '4096', file)).equals(files.content.subarray(0, 4096))).toBe(true)
  })

  it('tells the kernel what has changed', async () => {
    const { channel, files, file } = await serve(twin, { fileBytes: 65_536 })
    await run('cat', file)
    files.content.fill(7)
    expect((await run('cat', file)).equals(files.content)).toBe(false)
    await Promise.all([channel.notify(invalidation(2)), channel.notify(invalidation(4711))])
    expect((await run('cat', file)).equals(files.content)).toBe(true)
    await expect(channel.notify(Buffer.from([16, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))).rejects.toMatchObject(
      {
        details: { errno: 'EINVAL' },
      },
    )
  })

  it('refuses what cannot be mounted, in words', async () => {
    const mountPoint = await mountDirectory()
    const mount = (options: Partial<MountOptions>): Promise<FuseChannel> =>
      mountFuse({ ...OPTIONS, mountPoint, twin, ...options })
    await expect(mount({ mountPoint: join(mountPoint, 'absent') })).rejects.toMatchObject({ code: 'InvalidArgument' })
    await expect(mount({ mountPoint: process.execPath })).rejects.toThrow('is not a directory')
    await expect(mount({ name: 'a,suid' })).rejects.toMatchObject({ code: 'InvalidArgument' })
    expect(await findMount(mountPoint)).toBeUndefined()
  })
}

function testEnds(twin: ChannelTwin): void {
  it('ends when it is unmounted, from here or from outside', async () => {
    const first = await serve(twin)
    await run('cat', first.file)
    await first.channel.unmount()
    await first.channel.closed
    await first.channel.unmount()
    const second = await serve(twin)
    await run('umount', second.mountPoint)
    await second.channel.closed
    expect(second.channel.reply(Buffer.alloc(16))).toBe(false)
    await expect(second.channel.notify(invalidation(2))).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('mounts on what a symbolic link names', async () => {
    const target = await mountDirectory()
    const link = join(target, '..', 'link')
    await symlink(target, link)
    try {
      const channel = await mountFuse({ ...OPTIONS, mountPoint: link, twin })
      channels.push(channel)
      expect(channel.mountPoint).toBe(target)
      expect((await findMount(target))?.source).toBe('null')
    } finally {
      await unlink(link)
    }
  })

  it('unmounts under load: busy, or lazily while readers finish', async () => {
    const { channel, files, file, mountPoint } = await serve(twin, { directIo: true, delayMs: 5 })
    const read = run('dd', `if=${file}`, 'bs=64K', 'status=none')
    await waitFor('reads', () => (files.counts.get(OPCODE.READ) ?? 0) > 3)
    await expect(channel.unmount()).rejects.toMatchObject({ code: 'Unavailable', details: { errno: 'EBUSY' } })
    await channel.unmount({ lazy: true })
    expect(await findMount(mountPoint)).toBeUndefined()
    expect((await read).equals(files.content)).toBe(true)
    await channel.closed
  })

  it('leaves ENOTCONN, not a hang, when it closes under load', async () => {
    const { channel, files, file, mountPoint } = await serve(twin, { directIo: true, delayMs: 50 })
    const readers = Array.from({ length: 8 }, () => run('dd', `if=${file}`, 'bs=4096', 'status=none'))
    const outcomes = Promise.allSettled(readers)
    await waitFor('reads', () => (files.counts.get(OPCODE.READ) ?? 0) > 8)
    await channel.close()
    await channel.closed
    expect((await outcomes).map(({ status }) => status)).toEqual(readers.map(() => 'rejected'))
    expect(await isDeadMount(mountPoint)).toBe((await findMount(mountPoint)) !== undefined)
  })

  it('a server killed under load leaves a dead mount, which is cleaned and mounted again', async () => {
    const mountPoint = await mountDirectory()
    const options = { twin, directIo: true, delayMs: 20 }
    const server = await serverProcess(mountPoint, options)
    expect(await isDeadMount(mountPoint)).toBe(false)
    expect(await cleanDeadMount(mountPoint)).toBe(false)
    const read = run('dd', `if=${join(mountPoint, 'file')}`, 'bs=4096', 'status=none')
    const outcome = expect(read).rejects.toThrow(/not connected|abort/)
    await sleep(100)
    server.kill('SIGKILL')
    await once(server, 'exit')
    await outcome
    expect(await isDeadMount(mountPoint)).toBe(true)
    await expect(mountFuse({ ...OPTIONS, mountPoint, twin })).rejects.toMatchObject({ details: { errno: 'ENOTCONN' } })
    // A server cleans by itself when it starts.
    const successor = await serverProcess(mountPoint, { twin })
    expect((await run('ls', mountPoint)).toString()).toBe('file\n')
    successor.kill('SIGTERM')
    expect(await once(successor, 'exit')).toEqual([0, null])
  })

  it('a process that ends without unmounting does not hang', async () => {
    const mountPoint = await mountDirectory()
    const server = await serverProcess(mountPoint, { twin, exitMs: 50 })
    expect(await once(server, 'exit')).toEqual([0, null])
    expect((await findMount(mountPoint)) === undefined || (await isDeadMount(mountPoint))).toBe(true)
  })
}
