import { describe, expect, test } from 'vitest'
import type { MemoryStoreOptions } from '../../src/meta/memory/memory-store.ts'
import { amountOf } from '../support/metadata-switch.ts'
import { fixture, type Fixture } from '../unit/meta/namespace/fixture.ts'
import { BucketModel, shownVersion } from './bucket-model.ts'
import { checkNamespace } from './check-namespace.ts'
import { Random, randomKey, testSeed } from './random.ts'

const DELIMITERS = ['', '', '/', '/', '/', '//', 'a', '-', 'é', 'ab', 'a/', '\0', '/a', '\u{1f600}']
const SEED = testSeed()
/** On a busy machine. */
const LONG_RUN_MS = 300_000
const TTL_MS_MAX = 500

async function change(made: Fixture, model: BucketModel, random: Random, keys: string[]): Promise<void> {
  const known = keys.length > 0 && random.chance(0.6)
  const key = known ? random.pick(keys) : randomKey(random)
  if (!known) keys.push(key)
  if (random.chance(0.1)) made.clock.ms += random.below(TTL_MS_MAX)
  if (random.chance(0.6)) {
    const version = await made.put('box', key, random.chance(0.3) ? { ttlMs: 1 + random.below(TTL_MS_MAX) } : {})
    const { expiresMs } = version
    model.add(key, { id: version.versionId ?? 'null', marker: false, size: 0, expiresMs })
    return
  }
  const versions = model.versions(key)
  if (versions.length > 0 && random.chance(0.5)) {
    const { id } = random.pick(versions)
    await made.remove('box', key, id)
    model.drop(key, id)
    return
  }
  const { value } = await made.remove('box', key)
  if (model.versioning === 'off') model.drop(key, 'null')
  else model.add(key, { id: value.versionId ?? '', marker: true, size: 0 })
}

function somePrefix(random: Random, keys: readonly string[]): string {
  if (random.chance(0.4)) return ''
  const key = Array.from(random.chance(0.7) ? random.pick(keys) : randomKey(random))
  return key.slice(0, random.below(key.length + 1)).join('')
}

async function compareList(
  made: Fixture,
  model: BucketModel,
  random: Random,
  keys: readonly string[],
): Promise<number> {
  const request = {
    bucket: 'box',
    prefix: somePrefix(random, keys),
    delimiter: random.pick(DELIMITERS),
    after: random.chance(0.5) ? '' : random.chance(0.5) ? random.pick(keys) : somePrefix(random, keys),
    limit: random.chance(0.1) ? 0 : random.chance(0.5) ? 1 + random.below(5) : 1000,
  }
  const page = await made.namespace.list(request)
  const shown = {
    objects: page.objects.map((object) => object.key),
    commonPrefixes: page.commonPrefixes,
    truncated: page.truncated,
  }
  expect(shown, JSON.stringify(request)).toEqual(model.list(request))
  if (random.chance(0.9)) return 1
  // Paging through with `next` gives what one unlimited page gives.
  const whole = model.list({ ...request, after: '', limit: Infinity })
  const paged: { objects: string[]; commonPrefixes: string[] } = { objects: [], commonPrefixes: [] }
  let calls = 1
  for (let after: string | undefined = ''; after !== undefined; calls++) {
    const next = await made.namespace.list({ ...request, after, limit: 1 + random.below(4) })
    paged.objects.push(...next.objects.map((object) => object.key))
    paged.commonPrefixes.push(...next.commonPrefixes)
    expect(next.next === undefined).toBe(!next.truncated)
    after = next.next
  }
  expect({ ...paged, truncated: false }, JSON.stringify(request)).toEqual(whole)
  return calls
}

async function compareVersions(
  made: Fixture,
  model: BucketModel,
  random: Random,
  keys: readonly string[],
): Promise<number> {
  const keyMarker = random.chance(0.4) ? '' : random.pick(keys)
  const versions = model.versions(keyMarker)
  const request = {
    bucket: 'box',
    prefix: somePrefix(random, keys),
    delimiter: random.pick(DELIMITERS),
    keyMarker,
    versionIdMarker:
      keyMarker !== '' && versions.length > 0 && random.chance(0.6) ? random.pick(versions).id : undefined,
    limit: random.chance(0.5) ? 1 + random.below(6) : 1000,
  }
  const page = await made.namespace.listVersions(request)
  const shown = {
    versions: page.versions.map((version) => shownVersion(version.key, version.versionId, version)),
    commonPrefixes: page.commonPrefixes,
    truncated: page.truncated,
  }
  expect(shown, JSON.stringify(request)).toEqual(model.listVersions(request))
  if (random.chance(0.9)) return 1
  const whole = model.listVersions({ ...request, keyMarker: '', versionIdMarker: undefined, limit: Infinity })
  const paged: { versions: string[]; commonPrefixes: string[] } = { versions: [], commonPrefixes: [] }
  let calls = 1
  let markers: { keyMarker: string; versionIdMarker: string | undefined } = {
    keyMarker: '',
    versionIdMarker: undefined,
  }
  for (let more = true; more; calls++) {
    const next = await made.namespace.listVersions({ ...request, ...markers, limit: 1 + random.below(4) })
    paged.versions.push(...next.versions.map((version) => shownVersion(version.key, version.versionId, version)))
    paged.commonPrefixes.push(...next.commonPrefixes)
    more = next.truncated
    markers = { keyMarker: next.nextKeyMarker ?? '', versionIdMarker: next.nextVersionIdMarker }
  }
  expect({ ...paged, truncated: false }, JSON.stringify(request)).toEqual(whole)
  return calls
}

async function run(seed: number, options: MemoryStoreOptions, callsWanted: number): Promise<void> {
  const random = new Random(seed)
  for (let calls = 0; calls < callsWanted;) {
    const made = await fixture(options)
    const model = new BucketModel(() => made.clock.ms)
    await made.bucket('box')
    const keys: string[] = []
    for (let phase = 0; phase < 6; phase++) {
      if (phase === 2) {
        model.versioning = 'enabled'
        await made.namespace.setVersioning('box', 'enabled')
      } else if (phase === 4) {
        model.versioning = 'suspended'
        await made.namespace.setVersioning('box', 'suspended')
      }
      for (let i = 0; i < 60; i++) await change(made, model, random, keys)
      for (let i = 0; i < 120; i++) {
        calls += await (random.chance(0.6) ? compareList : compareVersions)(made, model, random, keys)
      }
    }
    await checkNamespace(made.store)
    await made.stop()
  }
}

describe(`listings against a flat model (seed ${SEED})`, () => {
  test(
    'random prefixes, delimiters, markers and limits over odd keys, paged through, with versions',
    async () => {
      await run(SEED, {}, amountOf({ usual: 24_000, overEtcd: 24_000, brieflyOverEtcd: 1200 }))
    },
    LONG_RUN_MS,
  )

  test(
    'C1, C2: the same with every transaction run twice, 128 operations at most',
    async () => {
      const calls = amountOf({ usual: 4000, overEtcd: 4000, brieflyOverEtcd: 400 })
      await run(SEED + 1, { forceRetry: true, operationsMax: 128 }, calls)
    },
    LONG_RUN_MS,
  )
})

describe('listings of wide trees', () => {
  test('a flat page over directories of one object costs a few scans', async () => {
    const made = await fixture()
    await made.bucket('box')
    const expected: string[] = []
    for (let i = 0; i < 3000; i++) expected.push(`dir-${String(i).padStart(5, '0')}/x/only`)
    await Promise.all(expected.map((key) => made.put('box', key)))
    let scans = 0
    const counting =
      <Rest extends unknown[], Result>(scan: (...rest: Rest) => Result) =>
      (...rest: Rest): Result => {
        scans++
        return scan(...rest)
      }
    const read = made.store.read.bind(made.store)
    made.store.read = (fn) =>
      read((view) => {
        const counted = Object.create(view, {
          scan: { value: counting(view.scan.bind(view)) },
          scanMany: { value: counting(view.scanMany.bind(view)) },
          get: { value: view.get.bind(view) },
          getMany: { value: view.getMany.bind(view) },
          revision: { value: view.revision },
        }) as typeof view
        return fn(counted)
      })
    const request = { bucket: 'box', prefix: '', delimiter: '', limit: 1000 }
    const page = await made.namespace.list({ ...request, after: 'dir-01' })
    expect(page.objects.map((object) => object.key)).toEqual(expected.slice(1000, 2000))
    expect(scans).toBeLessThan(40)
    await made.stop()
  })
})
