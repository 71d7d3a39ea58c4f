/** Random operations on a disk level over real files, against a model that knows what each block's bytes are. */
import * as fc from 'fast-check'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { DiskLevel } from '../../../../src/cache-tier/disk/disk-level.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import { BLOCK_BYTES, blockBytes, pageCrcs, segment } from '../../../conformance/cache-level.ts'
import { DiskFixture } from './disk-fixtures.ts'

const BYTES_MAX = 400 * 1024
const ids = ['1', '2', '3', '4', '5'].map(segment)
const id = fc.constantFrom(...ids)
const block = fc.nat({ max: 40 })
const operation = fc.oneof(
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('keep' as const), id, block }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('read' as const), id, block }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('read again' as const), offered: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('adopt' as const), id, blocks: fc.integer({ min: 1, max: 20 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('forget' as const), id }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('stop' as const, 'kill' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('corrupt' as const), file: fc.nat(), at: fc.nat() }) },
)
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never

class Run {
  readonly #fixture: DiskFixture
  #level: DiskLevel
  /** Never again asked for by the engine, which does not use an id twice. */
  readonly #forgotten = new Set<SegmentId>()
  /** What was ever given to it, though it may be gone again. */
  readonly #offered: { readonly id: SegmentId; readonly block: number }[] = []
  reads = 0
  found = 0

  constructor(fixture: DiskFixture, level: DiskLevel) {
    this.#fixture = fixture
    this.#level = level
  }

  async do(step: Operation): Promise<void> {
    const fixture = this.#fixture
    const level = this.#level
    if ('id' in step && this.#forgotten.has(step.id)) return
    switch (step.kind) {
      case 'keep': {
        const bytes = blockBytes(step.id, step.block)
        level.keep(step.id, step.block, bytes, pageCrcs(bytes))
        this.#offered.push(step)
        break
      }
      case 'read':
        await this.#read(step)
        break
      case 'read again': {
        const offered = this.#offered[step.offered % this.#offered.length]
        if (offered && !this.#forgotten.has(offered.id)) await this.#read(offered)
        break
      }
      case 'adopt': {
        const { path, sealed } = fixture.sealedFile(step.id, step.blocks * BLOCK_BYTES)
        await level.adopt(step.id, path, sealed)
        break
      }
      case 'forget':
        level.forget(step.id)
        this.#forgotten.add(step.id)
        await fixture.settled(level)
        for (let one = 0; one <= 40; one++) expect(await fixture.read(level, step.id, one)).toBeUndefined()
        break
      case 'stop':
      case 'kill':
        await (step.kind === 'stop' ? level.stop() : fixture.settled(level))
        this.#level = await fixture.start({ bytesMax: BYTES_MAX })
        break
      case 'corrupt':
        await this.#corrupt(step.file, step.at)
    }
    expect(this.#level.bytesHeld).toBeLessThanOrEqual(BYTES_MAX)
  }

  async #read({ id, block }: { readonly id: SegmentId; readonly block: number }): Promise<void> {
    const bytes = await this.#fixture.read(this.#level, id, block)
    this.reads++
    if (bytes === undefined) return
    this.found++
    expect(bytes).toEqual(blockBytes(id, block))
  }

  /** Flips a bit anywhere in any file, be it a block, a record or a footer. */
  async #corrupt(file: number, at: number): Promise<void> {
    await this.#fixture.settled(this.#level)
    const names = this.#fixture.files()
    const name = names[file % names.length]
    if (name === undefined) return
    const path = join(this.#fixture.directory, name)
    const bytes = readFileSync(path)
    if (bytes.length === 0) return
    const place = at % bytes.length
    bytes[place] = (bytes[place] ?? 0) ^ (1 << (at % 8))
    writeFileSync(path, bytes)
  }
}

test('whatever happens, a block that is read is right, forgotten ones are gone, and the bound holds on the disk', async () => {
  let reads = 0
  let found = 0
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 20, maxLength: 150 }), async (steps) => {
      const fixture = new DiskFixture()
      try {
        const run = new Run(fixture, await fixture.start({ bytesMax: BYTES_MAX }))
        for (const step of steps) await run.do(step)
        expect(fixture.failures).toEqual([])
        expect(fixture.bytesSeenMax).toBeLessThanOrEqual(BYTES_MAX)
        reads += run.reads
        found += run.found
      } finally {
        await fixture.dispose()
      }
    }),
    { numRuns: 60 },
  )
  // Or the test would show nothing.
  expect(found).toBeGreaterThan(reads / 10)
})
