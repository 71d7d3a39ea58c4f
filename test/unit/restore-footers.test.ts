/** Footers with labels that none of ours wrote: what can be used is, the rest is counted, and nothing ends the rebuild. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { SegmentId } from '../../src/common/ids.ts'
import type { Engine } from '../../src/engine.ts'
import type { Footer } from '../../src/persist/journal/format.ts'
import type { RemoteFooters } from '../../src/persist/remote-footers.ts'
import { addFooterBodies, type FooterReport } from '../../src/restore-footers.ts'
import { encodeLabel } from '../../src/store/labels.ts'
import { startNode } from '../support/restorable.ts'

const SEGMENT = '0192f0000000aaaaaaaaaaaaaaaaaaaa' as SegmentId
const BODY_BYTES = 64

let base: string
let engine: Engine

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'tidegate-footers-'))
  engine = await startNode({ data: join(base, 'data'), store: join(base, 'store') })
})

afterEach(async () => {
  await engine.stop()
  await rm(base, { recursive: true, force: true })
})

/** One segment whose bodies have these labels, one after the other. */
function add(labels: readonly string[]): Promise<FooterReport> {
  const bodies = labels.map((label, index) => ({
    label,
    content: 1_000_000 + index,
    offset: index * BODY_BYTES,
    length: BODY_BYTES,
  }))
  const footer = { bodies, dataBytes: labels.length * BODY_BYTES } as Partial<Footer> as Footer
  const segments = new Map([[SEGMENT, footer.dataBytes]])
  const footers = { segments, footer: () => Promise.resolve(footer) } as unknown as RemoteFooters
  const restored = { namespace: engine.namespace, footers, settled: new Set<SegmentId>(), contentMax: 0, capturedMs: 0 }
  return addFooterBodies(restored, () => undefined)
}

async function versions(bucket: string): Promise<{ key: string; etag: string }[]> {
  const page = { prefix: '', delimiter: '', keyMarker: '', versionIdMarker: undefined, limit: 1000 }
  const listed = await engine.store.objects.listVersions({ bucket, ...page })
  return listed.versions.map(({ key, etag }) => ({ key, etag }))
}

test('a hostile label is counted as none, and the others are used', async () => {
  const id = 'f'.repeat(32)
  const hostile = [
    { b: 'plain', k: '' },
    { b: 'plain', k: 'x'.repeat(3000) },
    { b: 'plain', k: `deep/${'x'.repeat(3000)}/y` },
    { b: 'plain', k: 'lone \uD800' },
    { b: '../x', k: 'k' },
    { b: 'plain', k: 'k', u: 'zz', p: 1 },
    { b: 'plain', k: 'k', u: id, p: 0.5 },
    { b: 'plain', k: 'k', u: id, p: 70_000 },
    { b: 'plain', k: 'x/'.repeat(700), u: id, p: 1 },
    { b: 'plain', k: 'k', f: 1e300, o: 0 },
    { b: 'plain', k: 'k', f: 7, o: -5 },
  ]
  const good = encodeLabel({ bucket: 'plain', key: 'good' })
  const part = encodeLabel({ bucket: 'plain', key: 'upload', part: { uploadId: id, partNumber: 10_000 } })
  const report = await add([
    ...hostile.map((label) => JSON.stringify(label)),
    good,
    part,
    '{"b":"plain","k":"t","m":1e16}',
  ])
  expect(report).toMatchObject({ objects: 2, fileWrites: 0, unlabelled: hostile.length, uploads: [{ uploadId: id }] })
  expect((await versions('plain')).map(({ key }) => key)).toEqual(['good', 't'])
})

test('bodies without an ETag in their label get one each, also within one segment', async () => {
  await engine.store.buckets.create({ name: 'kept', owner: 'root', region: 'us-east-1' })
  await engine.store.buckets.setVersioning('kept', 'enabled')
  const label = encodeLabel({ bucket: 'kept', key: 'k' })
  await add([label, label, encodeLabel({ bucket: 'kept', key: 'other' })])
  const etags = (await versions('kept')).map(({ etag }) => etag)
  for (const etag of etags) expect(etag).toMatch(/^[0-9a-f]{32}-1$/)
  expect(new Set(etags).size).toBe(3)
})
