/**
 * The session over a channel in memory and a store in memory: what is asked is answered once, in time, and what fails is answered
 * too. The operations themselves are tried through a real mount (session-mount.test.ts).
 */
import { afterEach, expect, it, vi } from 'vitest'
import { AssertionFailed } from '../../../../src/common/assert.ts'
import { systemClock } from '../../../../src/common/clock.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import type { ByteString } from '../../../../src/common/ids.ts'
import { silentLogger } from '../../../../src/common/logging.ts'
import type { OnRequests, RequestSlot } from '../../../../src/gateway/fuse/channel/ports.ts'
import { ERRNO } from '../../../../src/gateway/fuse/protocol/errno.ts'
import { OPEN_FLAGS, OPEN_REPLY } from '../../../../src/gateway/fuse/protocol/flags.ts'
import { OPCODES } from '../../../../src/gateway/fuse/protocol/opcodes.ts'
import { FuseSession } from '../../../../src/gateway/fuse/session.ts'
import type { Files } from '../../../../src/store/doors.ts'
import { FakeFileDoor } from '../../../support/fake-file-door.ts'

interface Reply {
  readonly unique: number
  readonly errno: number
  readonly bytes: Buffer
}

/** Delivers what the test says, and keeps what is answered. */
class FakeChannel {
  readonly replies: Reply[] = []
  readonly notices: Buffer[] = []
  readonly kept = new Set<RequestSlot>()
  onReply: () => boolean = () => true
  #deliver: OnRequests = () => undefined
  #unique = 2

  start(deliver: OnRequests): void {
    this.#deliver = deliver
  }

  keep(slot: RequestSlot): void {
    this.kept.add(slot)
  }

  release(slot: RequestSlot): void {
    this.kept.delete(slot)
  }

  reply(head: Uint8Array, ...pieces: readonly Uint8Array[]): boolean {
    const bytes = Buffer.concat([head, ...pieces])
    expect(bytes.readUInt32LE(0)).toBe(bytes.length)
    this.replies.push({ unique: Number(bytes.readBigUInt64LE(8)), errno: 0 - bytes.readInt32LE(4), bytes })
    return this.onReply()
  }

  told: Promise<void> = Promise.resolve()

  notify(message: Uint8Array): Promise<void> {
    this.notices.push(Buffer.from(message))
    return this.told
  }

  /** A request of the given body; returns its number. */
  ask(opcode: number, nodeId: number, body: Buffer = Buffer.alloc(0)): number {
    const unique = this.#unique++
    const bytes = Buffer.alloc(8192)
    bytes.writeUInt32LE(40 + body.length, 0)
    bytes.writeUInt32LE(opcode, 4)
    bytes.writeBigUInt64LE(BigInt(unique), 8)
    bytes.writeBigUInt64LE(BigInt(nodeId), 16)
    body.copy(bytes, 40)
    const slot = { index: unique, bytes, words: new Uint32Array(bytes.buffer, 0, 1), length: 40 + body.length }
    this.#deliver([slot])
    return unique
  }
}

const sessions: FuseSession[] = []
afterEach(async () => {
  vi.restoreAllMocks()
  for (const session of sessions.splice(0)) await session.stop()
})

function serve(
  change: (files: FakeFileDoor) => void = () => undefined,
  isAlone = true,
): {
  channel: FakeChannel
  files: FakeFileDoor
  bugs: unknown[]
} {
  const [channel, files, bugs] = [new FakeChannel(), new FakeFileDoor({ uid: 0, gid: 0 }), [] as unknown[]]
  change(files)
  const session = new FuseSession({
    channel,
    files,
    reading: { view: () => Buffer.from('slab'), release: () => undefined },
    objects: { put: () => Promise.reject(new Error('put')), delete: () => Promise.reject(new Error('delete')) },
    clock: systemClock,
    log: silentLogger,
    onBug: (error) => bugs.push(error),
    isAlone: () => isAlone,
    answerMsMax: 50,
  })
  session.start()
  sessions.push(session)
  return { channel, files, bugs }
}

const name = (text: string): Buffer => Buffer.from(`${text}\0`)
const answerTo = (channel: FakeChannel, unique: number): Promise<Reply> =>
  vi.waitFor(() => {
    const found = channel.replies.filter((reply) => reply.unique === unique)
    expect(found).toHaveLength(1)
    return found[0] as Reply
  }, 5_000)

it('answers what it does not know with ENOSYS, and what is broken with EINVAL', async () => {
  const { channel } = serve()
  expect((await answerTo(channel, channel.ask(4000, 1))).errno).toBe(ERRNO.ENOSYS)
  expect((await answerTo(channel, channel.ask(OPCODES.READ, 1, Buffer.alloc(3)))).errno).toBe(ERRNO.EINVAL)
})

it('says that a name is absent in a way that the kernel may remember', async () => {
  const { channel } = serve()
  const reply = await answerTo(channel, channel.ask(OPCODES.LOOKUP, 1, name('absent')))
  expect(reply.errno).toBe(0)
  expect(reply.bytes.readBigUInt64LE(16)).toBe(0n)
  expect(reply.bytes.readBigUInt64LE(32)).toBe(60n)
})

it('answers EIO when an operation takes too long, once, whatever comes afterwards', async () => {
  const late = Promise.withResolvers<never>()
  const { channel, bugs } = serve((files) => vi.spyOn(files, 'node').mockReturnValue(late.promise))
  const unique = channel.ask(OPCODES.GETATTR, 1, Buffer.alloc(16))
  expect((await answerTo(channel, unique)).errno).toBe(ERRNO.EIO)
  late.reject(new TidegateError('NoSuchKey', 'late'))
  await new Promise(setImmediate)
  expect(channel.replies).toHaveLength(1)
  expect(bugs).toEqual([])
})

it.each([
  ['an error of the table', new TidegateError('StorageFull', 'full'), ERRNO.ENOSPC, 0],
  ['any other error', new TypeError('what'), ERRNO.EIO, 0],
  ['a broken invariant', new AssertionFailed('never'), ERRNO.EIO, 1],
])('answers %s', async (_, error, errno, bugCount) => {
  const { channel, bugs } = serve((files) => vi.spyOn(files, 'node').mockRejectedValue(error))
  expect((await answerTo(channel, channel.ask(OPCODES.GETATTR, 1, Buffer.alloc(16)))).errno).toBe(errno)
  expect(bugs).toHaveLength(bugCount)
})

it('keeps the slot of a write until its bytes are copied, and of nothing else', async () => {
  const copied = Promise.withResolvers<void>()
  const { channel } = serve((files) => vi.spyOn(files, 'write').mockReturnValue(copied.promise))
  const write = Buffer.alloc(40 + 5)
  write.writeUInt32LE(5, 16)
  const unique = channel.ask(OPCODES.WRITE, 2, write)
  await answerTo(channel, channel.ask(OPCODES.LOOKUP, 1, name('absent')))
  expect(channel.kept.size).toBe(1)
  expect(channel.replies.some((reply) => reply.unique === unique)).toBe(false)
  copied.resolve()
  await answerTo(channel, unique)
  await vi.waitFor(() => expect(channel.kept.size).toBe(0))
})

it('closes what it opened for a caller that is gone', async () => {
  const { channel, files } = serve((door) => door.put(0, 'file', 'text'))
  channel.onReply = () => false
  channel.ask(OPCODES.OPEN, 2, Buffer.alloc(8))
  await vi.waitFor(() => expect(files.calls).toContain('release'))
  expect(files.openHandles).toBe(0)
})

it('releases what a read borrows from the slab, also when the kernel refuses the reply', async () => {
  const pieces = [{ kind: 'slab', slabOffset: 0, length: 4, lease: 7 }] as const
  const released: number[] = []
  const channel = new FakeChannel()
  const files: Files = new FakeFileDoor({ uid: 0, gid: 0 })
  vi.spyOn(files, 'read').mockResolvedValue([...pieces, { kind: 'hole', length: 3 }])
  const session = new FuseSession({
    channel,
    files,
    reading: { view: () => Buffer.from('slab'), release: (lease) => void released.push(lease) },
    objects: { put: () => Promise.reject(new Error('put')), delete: () => Promise.reject(new Error('delete')) },
    clock: systemClock,
    log: silentLogger,
    onBug: () => undefined,
  })
  session.start()
  sessions.push(session)
  const reply = await answerTo(channel, channel.ask(OPCODES.READ, 2, Buffer.alloc(40)))
  expect(reply.bytes.subarray(16).toString()).toBe('slab\0\0\0')
  expect(released).toEqual([7])
  channel.onReply = () => {
    if (channel.replies.at(-1)?.errno === 0) throw new TidegateError('Internal', 'refused')
    return true
  }
  const refused = channel.ask(OPCODES.READ, 2, Buffer.alloc(40))
  await vi.waitFor(() => expect(released).toEqual([7, 7]))
  expect(channel.replies.filter(({ unique }) => unique === refused).map(({ errno }) => errno)).toEqual([0, ERRNO.EIO])
})

it('tells the kernel what others change among the names that it knows, and nothing else', async () => {
  const { channel, files } = serve()
  files.put(0, 'theirs', 'text')
  expect(channel.notices.map((notice) => notice.readInt32LE(4))).toContain(3)
  channel.notices.length = 0
  const directory = await files.makeDirectory(0, 'unknown' as ByteString, { mode: 0o755, uid: 0, gid: 0 })
  channel.notices.length = 0
  files.put(directory.inode, 'inside', 'text')
  expect(channel.notices).toEqual([])
  await answerTo(channel, channel.ask(OPCODES.MKDIR, 1, Buffer.concat([Buffer.alloc(8), name('ours')])))
  expect(channel.notices).toEqual([])
})

it('lets the kernel keep nothing that changed while it was asked for', async () => {
  const { channel, files } = serve((door) => door.put(0, 'file', 'text'))
  const node = await files.node(1)
  const slow = Promise.withResolvers<typeof node>()
  vi.spyOn(files, 'find').mockReturnValueOnce(slow.promise)
  const unique = channel.ask(OPCODES.LOOKUP, 1, name('file'))
  files.put(0, 'file', 'changed')
  slow.resolve(node)
  const reply = await answerTo(channel, unique)
  expect([reply.bytes.readBigUInt64LE(32), reply.bytes.readBigUInt64LE(40)]).toEqual([0n, 0n])
  const again = await answerTo(channel, channel.ask(OPCODES.LOOKUP, 1, name('file')))
  expect(again.bytes.readBigUInt64LE(32)).toBe(60n)
})

it('opens what others changed once the kernel was told; when that takes too long, without the pages that it kept; what is cut, at once', async () => {
  const late = Promise.withResolvers<undefined>()
  vi.spyOn(systemClock, 'sleep').mockReturnValue(late.promise)
  const { channel, files } = serve((door) => door.put(0, 'file', 'text'))
  const entry = await answerTo(channel, channel.ask(OPCODES.LOOKUP, 1, name('file')))
  const nodeId = Number(entry.bytes.readBigUInt64LE(16))
  const open = (flags: number): number => {
    const body = Buffer.alloc(8)
    body.writeUInt32LE(flags, 0)
    return channel.ask(OPCODES.OPEN, nodeId, body)
  }
  const keepsPages = async (unique: number): Promise<boolean> => {
    const { bytes } = await answerTo(channel, unique)
    return (bytes.readUInt32LE(24) & OPEN_REPLY.KEEP_CACHE) !== 0
  }
  const change = async (told: Promise<void>): Promise<void> => {
    channel.told = told
    await files.change(1, { size: 1 })
  }
  const telling = Promise.withResolvers<void>()
  await change(telling.promise)
  const waiting = open(0)
  await answerTo(channel, open(OPEN_FLAGS.TRUNCATE))
  expect(channel.replies.some(({ unique }) => unique === waiting)).toBe(false)
  telling.resolve()
  expect(await keepsPages(waiting)).toBe(true)
  await change(new Promise(() => undefined))
  const hopeless = open(0)
  late.resolve(undefined)
  expect(await keepsPages(hopeless)).toBe(false)
})

it.each([
  ['stays', true, true],
  ['goes where there is another mount: its answer cannot wait', false, false],
])('what the kernel keeps of a file that CREATE finds there %s', async (_, isAlone, keepsPages) => {
  const { channel } = serve((door) => door.put(0, 'file', 'text'), isAlone)
  const create = async (text: string): Promise<number> => {
    const { bytes } = await answerTo(
      channel,
      channel.ask(OPCODES.CREATE, 1, Buffer.concat([Buffer.alloc(16), name(text)])),
    )
    return bytes.readUInt32LE(152) & OPEN_REPLY.KEEP_CACHE
  }
  expect([await create('file'), await create('made')].map((flag) => flag !== 0)).toEqual([keepsPages, true])
})
