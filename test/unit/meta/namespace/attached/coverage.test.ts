import { expect, it } from 'vitest'
import { attachedFixture, DEEP, LISTING_TTL_MS, shallow, type AttachedFixture } from './fixture.ts'
import type { Scope, SeenPage } from '../../../../../src/meta/namespace/attached/types.ts'
import { COVERAGE, prefixRange } from '../../../../../src/meta/namespace/keys.ts'
import { isName } from '../../../../../src/meta/namespace/names-source.ts'

const END = '\u{10ffff}'

function empty(f: AttachedFixture, scope: Scope, [after, through]: [string, string | undefined]): SeenPage {
  const { bucketId } = f.attachment
  const range = { after, through, prefix: scope.kind === 'shallow' ? scope.directory : '' }
  const asked = { askedAt: f.store.revision(), askedAtMs: f.clock.ms }
  return { bucketId, scope, ...range, ...asked, objects: [], prefixes: [] }
}

async function rows(f: AttachedFixture): Promise<number> {
  return f.store.read(async (view) => {
    const found = await view.scan(prefixRange(COVERAGE), 1000)
    expect(found.every(({ key }) => !isName(key))).toBe(true)
    return found.length
  })
}

it('joins neighbours that were listed at about the same time', async () => {
  const f = await attachedFixture()
  const { bucketId } = f.attachment
  const begunMs = f.clock.ms
  await f.mirror.merge(empty(f, DEEP, ['', 'b']))
  f.clock.ms += 100
  await f.mirror.merge(empty(f, DEEP, ['b', 'd']))
  expect(await rows(f)).toBe(1)
  expect(await f.mirror.covered(bucketId, DEEP, 'a', begunMs)).toEqual({ through: 'd', sinceMs: begunMs })
  f.clock.ms += LISTING_TTL_MS
  const laterMs = f.clock.ms
  await f.mirror.merge(empty(f, DEEP, ['d', undefined]))
  expect(await rows(f)).toBe(2)
  expect(await f.mirror.covered(bucketId, DEEP, 'a', begunMs)).toEqual({ through: END, sinceMs: begunMs })
  expect(await f.mirror.covered(bucketId, DEEP, 'a', laterMs)).toBeUndefined()
  expect(await f.mirror.covered(bucketId, DEEP, 'd', laterMs)).toBeUndefined()
  expect(await f.mirror.covered(bucketId, DEEP, 'd\0', laterMs)).toEqual({ through: END, sinceMs: laterMs })
  await f.stop()
})

it('keeps what is newer where two overlap', async () => {
  const f = await attachedFixture()
  const { bucketId } = f.attachment
  const old = empty(f, DEEP, ['', undefined])
  f.clock.ms += LISTING_TTL_MS
  const sinceMs = f.clock.ms
  await f.mirror.merge(empty(f, DEEP, ['c', 'e']))
  await f.mirror.merge(old)
  expect(await rows(f)).toBe(3)
  expect(await f.mirror.covered(bucketId, DEEP, 'd', sinceMs)).toEqual({ through: 'e', sinceMs })
  expect(await f.mirror.covered(bucketId, DEEP, 'a', 0)).toEqual({ through: END, sinceMs: old.askedAtMs })
  await f.mirror.merge(empty(f, DEEP, ['', undefined]))
  expect(await rows(f)).toBe(1)
  await f.stop()
})

it('answers for a directory from what is deep, and not the other way round', async () => {
  const f = await attachedFixture()
  const { bucketId } = f.attachment
  const sinceMs = f.clock.ms
  await f.mirror.merge(empty(f, shallow('a/'), ['', undefined]))
  expect(await f.mirror.covered(bucketId, shallow('a/'), 'a/x', sinceMs)).toEqual({ through: END, sinceMs })
  expect(await f.mirror.covered(bucketId, shallow('a/b/'), 'a/b/', sinceMs)).toBeUndefined()
  expect(await f.mirror.covered(bucketId, DEEP, 'a/x', sinceMs)).toBeUndefined()
  await f.mirror.merge(empty(f, DEEP, ['', 'b/m']))
  expect(await f.mirror.covered(bucketId, shallow('a/b/'), 'a/b/', sinceMs)).toEqual({ through: END, sinceMs })
  expect(await f.mirror.covered(bucketId, shallow('b/'), 'b/', sinceMs)).toEqual({ through: 'b/m', sinceMs })
  expect(await f.mirror.covered(bucketId, shallow('c/'), 'c/', sinceMs)).toBeUndefined()
  await f.stop()
})

it('forgets what was listed of a prefix, in every scope', async () => {
  const f = await attachedFixture()
  const { bucketId } = f.attachment
  const sinceMs = f.clock.ms
  await f.mirror.merge(empty(f, DEEP, ['', undefined]))
  for (const directory of ['', 'a/', 'a/b/', 'a/b/c/', 'a/d/']) {
    await f.mirror.merge(empty(f, shallow(directory), ['', undefined]))
  }
  await f.mirror.uncover(bucketId, 'a/b/')
  const isCovered = async (scope: Scope, key: string): Promise<boolean> =>
    (await f.mirror.covered(bucketId, scope, key, sinceMs)) !== undefined
  expect(await isCovered(DEEP, 'a/b/x')).toBe(false)
  expect(await isCovered(DEEP, 'a/a')).toBe(true)
  expect(await isCovered(DEEP, 'a/c')).toBe(true)
  expect(await isCovered(shallow('a/b/'), 'a/b/x')).toBe(false)
  expect(await isCovered(shallow('a/b/c/'), 'a/b/c/x')).toBe(false)
  expect(await isCovered(shallow('a/d/'), 'a/d/x')).toBe(true)
  expect(await isCovered(shallow('a/'), 'a/b/')).toBe(false)
  expect(await isCovered(shallow('a/'), 'a/x')).toBe(true)
  await f.mirror.uncover(bucketId, '')
  expect(await rows(f)).toBe(0)
  await f.stop()
})

it('takes the place of more intervals than one transaction replaces', async () => {
  const f = await attachedFixture({ operationsMax: 128 })
  const { bucketId } = f.attachment
  for (let at = 0; at < 300; at++) {
    const name = String(at).padStart(4, '0')
    await f.mirror.merge(empty(f, DEEP, [name, `${name}x`]))
  }
  expect(await rows(f)).toBe(300)
  await f.mirror.merge(empty(f, DEEP, ['', undefined]))
  expect(await rows(f)).toBe(1)
  expect(await f.mirror.covered(bucketId, DEEP, '0100', f.clock.ms)).toMatchObject({ through: END })
  await f.stop()
})
