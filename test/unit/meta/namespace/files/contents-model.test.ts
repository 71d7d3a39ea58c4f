/**
 * Files against a model: for each offset, where in the segment its byte lies, or -1 in a hole. Copies share contents, and readers that
 * opened a file before it was changed go on reading it as it was (C12, C27) while the reclaimer works.
 */
import { expect, test } from 'vitest'
import type { ContentId, InodeId } from '../../../../../src/common/ids.ts'
import type { Extent, StoredRun } from '../../../../../src/common/model.ts'
import type { MemoryStoreOptions } from '../../../../../src/meta/memory/memory-store.ts'
import type { FileEdit } from '../../../../../src/common/file-contents.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { Random, testSeed } from '../../../../model/random.ts'
import { OWNER, fixture, type Fixture } from '../fixture.ts'

const SEED = testSeed()
const ROUNDS = Number(process.env['TIDEGATE_MODEL_ROUNDS'] ?? 400)
const HOLE = -1
const INLINE = -2
const NAMES = ['a', 'b', 'c', 'dir/d']

/** Bytes that compaction has written anew -> where they lay first. */
const origins = new Map<number, number>()

function originOf(segmentOffset: number): number {
  return origins.get(segmentOffset) ?? segmentOffset
}

interface ModelFile {
  readonly inode: InodeId
  bytes: number[]
  etag: string
}

interface OpenReader {
  readonly content: ContentId
  readonly bytes: readonly number[]
  readonly revision: number
}

class Run {
  readonly random: Random
  readonly made: Fixture
  readonly files = new Map<string, ModelFile>()
  readonly sizeMax: number
  readonly etags = new Set<string>()
  readers: OpenReader[] = []

  constructor(random: Random, made: Fixture, sizeMax: number) {
    this.random = random
    this.made = made
    this.sizeMax = sizeMax
  }

  pick(): [string, ModelFile] | undefined {
    return this.files.size === 0 ? undefined : this.random.pick([...this.files])
  }

  async put(): Promise<void> {
    const key = this.random.pick(NAMES)
    if (this.random.chance(0.3)) {
      const { inode, etag } = await this.made.put('box', key, { bytes: 'x'.repeat(this.random.below(20)) })
      const { size } = await this.made.namespace.lookup('box', key)
      this.files.set(key, { inode, bytes: Array<number>(size).fill(INLINE), etag })
      return
    }
    const run = await this.made.run(1 + this.random.below(this.sizeMax))
    const { inode, etag } = await this.made.put('box', key, { run })
    this.files.set(key, { inode, bytes: Array.from({ length: run.length }, (_, at) => run.segmentOffset + at), etag })
  }

  async write(): Promise<void> {
    const found = this.pick()
    if (!found) return
    const [key, file] = found
    const bytes = [...file.bytes]
    const edits = await this.edits(bytes, file.bytes.includes(INLINE))
    if (this.random.chance(0.2)) bytes.length = this.random.below(bytes.length + 1)
    else if (this.random.chance(0.15)) while (bytes.length < this.random.below(this.sizeMax)) bytes.push(HOLE)
    const request = { inode: file.inode, edits, inline: undefined, size: bytes.length, ack: 'journal' } as const
    const { value } = await this.made.namespace.files.publishFile({
      ...request,
      modified: { seconds: 9, nanoseconds: 1 },
    })
    expect(value).toMatchObject({ inode: file.inode, size: bytes.length, modified: { seconds: 9, nanoseconds: 1 } })
    file.bytes = bytes
    const { etag, size } = await this.made.namespace.lookup('box', key)
    expect(size).toBe(bytes.length)
    expect(etag).toMatch(/^[0-9a-f]{32}-\d+$/)
    expect(this.etags.has(etag)).toBe(false)
    this.etags.add(etag)
    file.etag = etag
  }

  /** Makes the edits in the model too. Some are parts of one run. */
  async edits(bytes: number[], replaceAll: boolean): Promise<FileEdit[]> {
    const edits: FileEdit[] = []
    const shared = this.random.chance(0.3) ? await this.made.run(200) : undefined
    let at = replaceAll ? 0 : this.random.below(this.sizeMax)
    const few = this.random.chance(0.5)
    for (let left = 1 + this.random.below(few ? 3 : 60); left > 0 && at < this.sizeMax; left--) {
      let length = 1 + this.random.below(this.random.chance(0.1) ? this.sizeMax : 12)
      if (replaceAll && left === 1) length = Math.max(length, bytes.length - at)
      const runOffset = this.random.below(100)
      const isHole = this.random.chance(0.25)
      const run = isHole ? undefined : shared && length < 100 ? shared : await this.made.run(length)
      const offset = run === shared ? runOffset : 0
      edits.push({ offset: at, length, run, runOffset: offset })
      while (bytes.length < at) bytes.push(HOLE)
      for (let i = 0; i < length; i++) {
        if (run) bytes[at + i] = run.segmentOffset + offset + i
        else if (at + i < bytes.length) bytes[at + i] = HOLE
      }
      at += length + (replaceAll ? 0 : this.random.below(30))
    }
    while (bytes.at(-1) === INLINE) bytes.pop()
    return this.random.chance(0.5) ? edits : edits.reverse()
  }

  async writeInline(): Promise<void> {
    const [, file] = this.pick() ?? []
    if (!file) return
    const inline = Buffer.alloc(this.random.below(20), 'x')
    const request = {
      inode: file.inode,
      edits: [],
      inline,
      size: inline.length,
      modified: undefined,
      ack: 'journal',
    } as const
    await this.made.namespace.files.publishFile(request)
    file.bytes = Array<number>(inline.length).fill(INLINE)
  }

  async copy(): Promise<void> {
    const [from, file] = this.pick() ?? []
    if (from === undefined || !file) return
    const key = this.random.pick(NAMES)
    const { value } = await this.made.namespace.copy({
      source: { bucket: 'box', key: from },
      sourceConditions: {},
      bucket: 'box',
      key,
      attributes: undefined,
      tags: undefined,
      owner: OWNER,
      conditions: {},
      ack: 'journal',
    })
    this.files.set(key, { inode: value.target.inode, bytes: [...file.bytes], etag: value.target.etag })
  }

  /** By reference; often in one file. */
  async clone(): Promise<void> {
    const [from, source] = this.pick() ?? []
    const [to, target] = this.random.chance(0.3) ? [from, source] : (this.pick() ?? [])
    if (to === undefined || !source || !target) return
    const [at, offset] = [this.random.below(source.bytes.length + 5), this.random.below(this.sizeMax)]
    const wanted = 1 + this.random.below(this.sizeMax)
    const cloning = this.made.namespace.files.cloneRange({
      source: { inode: source.inode, offset: at },
      target: { inode: target.inode, offset },
      length: wanted,
      modified: { seconds: 8, nanoseconds: 2 },
      ack: 'journal',
    })
    if (source === target && Math.abs(at - offset) < wanted) {
      return await expect(cloning).rejects.toMatchObject({ code: 'InvalidArgument' })
    }
    const { value } = await cloning
    if (!value) {
      expect([...source.bytes, ...target.bytes]).toContain(INLINE)
      return
    }
    expect(value.length).toBeLessThanOrEqual(Math.max(0, Math.min(wanted, source.bytes.length - at)))
    expect(value.length > 0).toBe(at < source.bytes.length)
    const taken = source.bytes.slice(at, at + value.length)
    if (value.length === 0) return
    expect(taken).not.toContain(INLINE)
    while (target.bytes.length < offset) target.bytes.push(HOLE)
    target.bytes.splice(offset, taken.length, ...taken)
    expect(value.node).toMatchObject({ size: target.bytes.length, modified: { seconds: 8, nanoseconds: 2 } })
    const { etag } = await this.made.namespace.lookup('box', to)
    expect(this.etags.has(etag)).toBe(false)
    this.etags.add(etag)
  }

  /** C30: some of a pass, perhaps of a file that is written in the middle of it. */
  async compact(): Promise<void> {
    const [key, file] = this.pick() ?? []
    if (key === undefined || !file) return
    const { planCompaction, compactFile, settleCompaction } = this.made.namespace.files
    const before = await this.made.namespace.lookup('box', key)
    const node = await this.made.namespace.files.fileNode(file.inode)
    let rows: ContentId | undefined
    for (let at = 0, left = this.random.below(30); left > 0; left--) {
      const plan = await planCompaction(file.inode, at, 10 + this.random.below(400))
      if (!plan) {
        await settleCompaction(file.inode, rows)
        break
      }
      at = plan.to
      rows = plan.rows
      if (plan.what === 'nothing') continue
      const run = plan.what === 'rewrite' ? await this.rewritten(plan.pieces) : undefined
      if (this.random.chance(0.1)) return await this.write()
      await compactFile({ inode: file.inode, pieces: plan.pieces, run, ack: plan.ack })
    }
    const { body: _, ...after } = await this.made.namespace.lookup('box', key)
    expect(before).toMatchObject(after)
    const { storedBytes: __, ...nodeAfter } = await this.made.namespace.files.fileNode(file.inode)
    expect(node).toMatchObject(nodeAfter)
  }

  async rewritten(pieces: readonly { segmentOffset: number; length: number }[]): Promise<StoredRun> {
    const run = await this.made.run(pieces.reduce((sum, { length }) => sum + length, 0))
    let at = run.segmentOffset
    for (const { segmentOffset, length } of pieces) {
      for (let i = 0; i < length; i++) origins.set(at++, originOf(segmentOffset + i))
    }
    return run
  }

  async openReader(): Promise<void> {
    const [key, file] = this.pick() ?? []
    if (key === undefined || !file) return
    const revision = this.made.namespace.revision()
    const { body } = await this.made.namespace.lookup('box', key)
    if (body.kind === 'content') this.readers.push({ content: body.content, bytes: [...file.bytes], revision })
  }

  async read(): Promise<void> {
    const reader = this.readers.length > 0 && this.random.chance(0.7) ? this.random.pick(this.readers) : undefined
    if (reader) {
      const { content, bytes } = reader
      const from = this.random.below(bytes.length + 1)
      const length = this.random.below(bytes.length)
      expectBytes(await this.made.namespace.extents(content, from, length), bytes, { from, to: from + length })
      if (this.random.chance(0.3)) this.readers = this.readers.filter((other) => other !== reader)
      return
    }
    const [, file] = this.pick() ?? []
    if (!file) return
    const from = this.random.below(file.bytes.length + 1)
    const found = await this.made.namespace.files.fileExtents(file.inode, from, this.sizeMax)
    expect(found.size).toBe(file.bytes.length)
    if (found.inline) expect(file.bytes.every((byte) => byte === INLINE)).toBe(true)
    else expectBytes(found.extents, file.bytes, { from, to: from + this.sizeMax })
    await this.seek(file, from)
  }

  async seek({ inode, bytes }: ModelFile, from: number): Promise<void> {
    const { seekFile } = this.made.namespace.files
    const data = bytes.findIndex((byte, at) => at >= from && byte !== HOLE)
    expect(await seekFile(inode, from, 'data')).toBe(data < 0 ? undefined : data)
    const hole = bytes.findIndex((byte, at) => at >= from && byte === HOLE)
    const end = from < bytes.length ? bytes.length : undefined
    expect(await seekFile(inode, from, 'hole')).toBe(hole < 0 ? end : hole)
  }

  async reclaim(): Promise<void> {
    await this.made.namespace.flush()
    const horizon = Math.min(this.made.namespace.revision(), ...this.readers.map(({ revision }) => revision))
    for (let left = this.random.below(4); left >= 0; left--) await this.made.namespace.dismantle(horizon)
  }

  async remove(): Promise<void> {
    const [key] = this.pick() ?? []
    if (key === undefined) return
    await this.made.remove('box', key)
    this.files.delete(key)
  }
}

function expectBytes(
  extents: readonly Extent[],
  bytes: readonly number[],
  span: { readonly from: number; readonly to: number },
): void {
  const to = Math.min(span.to, bytes.length)
  const found = Array<number>(Math.max(0, to - span.from)).fill(HOLE)
  let end = span.from
  for (const { offset, length, segmentOffset } of extents) {
    expect(offset).toBeGreaterThanOrEqual(end)
    end = offset + length
    expect(end).toBeLessThanOrEqual(to)
    for (let i = 0; i < length; i++) found[offset - span.from + i] = originOf(segmentOffset + i)
  }
  const differs = found.findIndex((byte, at) => byte !== bytes[span.from + at])
  if (differs >= 0) {
    const [there, wanted] = [found, bytes.slice(span.from, to)].map((some) => some.slice(differs, differs + 8))
    throw new Error(`at ${span.from + differs} of ${bytes.length}: ${there?.join()}, not ${wanted?.join()}`)
  }
}

const CASES: readonly [string, MemoryStoreOptions, number][] = [
  ['as large as may be', {}, 3000],
  ['C1, C2: run twice, of 128 operations', { operationsMax: 128, bytesMax: 1_400_000, forceRetry: true }, 3000],
  ['short files', { operationsMax: 128 }, 60],
]

test.each(CASES)(
  'files hold what was written, to everyone who opened them; transactions %s',
  async (_, options, sizeMax) => {
    const random = new Random(SEED)
    const made = await fixture(options)
    await made.bucket('box')
    const run = new Run(random, made, sizeMax)
    origins.clear()
    const operations: readonly [number, () => Promise<void>][] = [
      [0.07, () => run.put()],
      [0.34, () => run.write()],
      [0.03, () => run.writeInline()],
      [0.06, () => run.copy()],
      [0.1, () => run.clone()],
      [0.06, () => run.compact()],
      [0.08, () => run.openReader()],
      [0.14, () => run.read()],
      [0.1, () => run.reclaim()],
      [0.02, () => run.remove()],
    ]
    try {
      for (let round = 0; round < ROUNDS; round++) {
        let drawn = random.next()
        await operations.find(([share]) => (drawn -= share) < 0)?.[1]()
        if (round % 20 === 0) await checkNamespace(made.store)
      }
      run.readers = []
      for (const [key, { bytes, inode }] of run.files) {
        const found = await made.namespace.files.fileExtents(inode, 0, sizeMax * 2)
        if (!found.inline) expectBytes(found.extents, bytes, { from: 0, to: bytes.length })
        await made.remove('box', key)
      }
      await made.reclaim()
      expect(await checkNamespace(made.store)).toMatchObject({ inodes: 1, contents: 0, dropped: 0 })
    } catch (error) {
      throw new Error(`seed ${SEED}`, { cause: error })
    } finally {
      await made.stop()
    }
  },
)
