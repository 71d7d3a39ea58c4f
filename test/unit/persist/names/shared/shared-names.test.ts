/** C17 where several nodes share the namespace and one remote store: one ships the names for all, whoever that is (names/shared/shared-names.ts). */
import { afterEach, describe, expect, it } from 'vitest'
import { must } from '../../../../../src/common/assert.ts'
import { systemClock } from '../../../../../src/common/clock.ts'
import { TidegateError } from '../../../../../src/common/errors.ts'
import { parseNamesObject } from '../../../../../src/persist/names/object-names.ts'
import { SharedModel, type SharedNode } from './shared-model.ts'

let model: SharedModel

afterEach(async () => {
  await model.stop()
})

const SECOND_MS = 1000
/** Longer than another's absence is borne with. */
const LONG_MS = 10_000

async function twoNodes(options: ConstructorParameters<typeof SharedModel>[1] = {}): Promise<[SharedNode, SharedNode]> {
  model = new SharedModel(1, options)
  const nodes: [SharedNode, SharedNode] = [await model.start(1), await model.start(2)]
  await nodes[0].namespace.createBucket({ name: 'bucket', owner: 'o', region: 'r', ack: 'journal' })
  return nodes
}

async function rounds(nodes: readonly SharedNode[], count: number, ms: number = SECOND_MS): Promise<void> {
  for (let round = 0; round < count; round++) {
    model.clock.ms += ms
    for (const node of nodes) {
      await node.namespace.flush()
      await model.round(node)
    }
    // Etcd in memory answers within this very turn, timers do not.
    await systemClock.sleep(1)
  }
}

function objects(kind: string): string[] {
  const found = [...model.objects].flatMap(
    ([name, { bytes, modifiedMs }]) => parseNamesObject({ name, bytes: bytes.length, modifiedMs }) ?? [],
  )
  return found.filter((object) => object.kind === kind).map(({ name }) => name)
}

/** As often as it takes. */
async function until(what: () => boolean, nodes: readonly SharedNode[]): Promise<void> {
  for (let round = 0; round < 100; round++) {
    if (what()) return
    await rounds(nodes, 1)
  }
  throw new Error('it does not happen')
}

it('one node ships what all have written, and the others know how far it has come', async () => {
  const [one, two] = await twoNodes()
  await model.put(one, 'by-one')
  const revision = await model.put(two, 'by-two')
  await model.persistAll()
  await until(() => two.names.status().shippedThrough >= revision, [one, two])
  expect(model.holders).toEqual([one])
  expect([one.names.status().holder, two.names.status().holder]).toEqual([1, 1])
  expect((await model.check())?.revision).toBeGreaterThanOrEqual(revision)
})

it('while nothing changes nothing is written, neither to the metadata nor to the remote store', async () => {
  const [one, two] = await twoNodes()
  await model.put(one, 'key')
  await model.persistAll()
  await rounds([one, two], 20)
  const [revision, objectsBefore] = [one.namespace.revision(), [...model.objects.keys()]]
  await rounds([one, two], 30)
  expect(one.namespace.revision()).toBe(revision)
  expect([...model.objects.keys()]).toEqual(objectsBefore)
})

it('what a node acknowledges as persisted is told by a record of its own, while another is the holder', async () => {
  const [one, two] = await twoNodes()
  await until(() => one.names.status().shippedThrough > 0, [one, two])
  await rounds([two], 2)
  const before = objects('records').length
  // Its bytes hold up every delta, and no record.
  await model.put(one, 'waits')
  await model.putPersisted(two, 'key')
  await until(() => model.acknowledged.length === 1, [two])
  expect(objects('records')).toHaveLength(before + 1)
  expect(await model.unnamed()).toEqual([])
})

it('what no record tells waits, on any node, until the holder has shipped it, which is asked at once', async () => {
  const [one, two] = await twoNodes()
  await model.put(two, 'gone')
  await model.persistAll()
  await until(() => two.names.status().shippedThrough > 0, [one, two])
  await rounds([one, two], 5)
  await model.remove(two, 'gone')
  const seen: string[] = []
  const covered = two.names.covered(two.namespace.revision()).then(() => seen.push('covered'))
  // No time passes: the interval between deltas is not waited for.
  for (let round = 0; round < 20 && seen.length === 0; round++) await rounds([two, one], 1, 0)
  expect(seen).toEqual(['covered'])
  await covered
  await model.check()
})

it('another takes over when the holder has gone, and goes on from where it was without a base', async () => {
  const [one, two] = await twoNodes()
  await model.put(one, 'first')
  await model.persistAll()
  await until(() => one.names.status().shippedThrough > 0, [one, two])
  const bases = objects('base-whole')
  await model.put(one, 'second')
  await model.persistAll()
  model.vanish(one)
  const revision = await model.put(two, 'third')
  await model.persistAll()
  await until(() => two.names.status().shippedThrough >= revision, [two])
  expect(two.names.isHolder).toBe(true)
  expect(objects('base-whole')).toEqual(bases)
  await model.check()
  // It has learned it, too.
  await rounds([one], 2)
  expect(model.holders).toEqual([two])
})

it('a copy of the rows that was loaded anew writes a base', async () => {
  const [one, two] = await twoNodes()
  await model.put(one, 'first')
  await model.persistAll()
  await until(() => one.names.status().shippedThrough > 0, [one, two])
  const bases = objects('base-whole')
  await model.put(one, 'second')
  await model.persistAll()
  const again = await model.restart(two)
  model.vanish(one)
  const revision = await model.put(again, 'third')
  await model.persistAll()
  await until(() => again.names.status().shippedThrough >= revision, [again])
  expect(objects('base-whole')).not.toEqual(bases)
  await model.check()
})

it('a holder that stops gives up its turn: another takes over at once', async () => {
  const [one, two] = await twoNodes()
  await until(() => one.names.isHolder, [one, two])
  await one.names.stop()
  await rounds([two], 2, 600)
  expect(two.names.isHolder).toBe(true)
})

it('a holder that wakes after another has taken over harms nothing, wherever it was paused', async () => {
  for (let after = 0; after < 12; after++) {
    const [one, two] = await twoNodes({ basedOnBytesMin: 300 })
    for (let round = 0; round < 6; round++) {
      await model.put(one, `key-${round}`)
      await model.persistAll()
      await rounds([one, two], 2, 61_000)
    }
    for (let step = 0; step < after; step++) {
      await model.put(one, `more-${step % 3}`)
      await model.persistAll()
      await rounds([one], 1, 61_000)
    }
    model.pause(one)
    await model.put(two, 'paused')
    await model.persistAll()
    await rounds([one], 2, 61_000)
    model.vanish(one)
    await until(() => two.names.isHolder && two.names.status().shippedThrough > 0, [two])
    await model.check()
    let last = 0
    for (let round = 0; round < 4; round++) {
      last = await model.put(two, `key-${round}`)
      await model.persistAll()
      await rounds([two], 2, 61_000)
      await model.reclaim(two)
    }
    model.resume(one)
    await rounds([one], 3, LONG_MS)
    expect(model.holders).toEqual([two])
    await model.check()
    await rounds([two], 4, 61_000)
    expect((await model.check())?.revision).toBeLessThanOrEqual(two.names.status().shippedThrough)
    expect(two.names.status().shippedThrough).toBeGreaterThanOrEqual(last)
    if (after < 11) await model.stop()
  }
})

it('metadata that were put back from a backup ship nothing over what a later life has shipped', async () => {
  const [one] = await twoNodes()
  await model.put(one, 'first')
  await model.persistAll()
  await until(() => one.names.status().shippedThrough > 0, [one])
  // As metadata of the same age that do not know what was shipped: they are others, of the same lineage.
  const shipped = new Map(model.objects)
  await model.stop()
  model = new SharedModel(2)
  for (const [name, object] of shipped) model.objects.set(name, object)
  const again = await model.start(1)
  await again.namespace.createBucket({ name: 'bucket', owner: 'o', region: 'r', ack: 'journal' })
  for (let round = 0; round < 40; round++) await model.put(again, `key-${round}`)
  await model.persistAll()
  await rounds([again], 5, LONG_MS)
  expect(again.names.status().lastError).toContain('later life')
  expect([...model.objects.keys()]).toEqual([...shipped.keys()])
  const { revision } = await again.namespace.lookup('bucket', 'key-39')
  await expect(again.names.named({ bucket: 'bucket', key: 'key-39', inode: 0, revision })).rejects.toThrow('later life')
})

it('a backup is made by the holder; another node says which that is', async () => {
  const [one, two] = await twoNodes()
  await model.put(one, 'key')
  await model.persistAll()
  await until(() => two.names.status().shippedThrough > 0, [one, two])
  const refused = two.names.backUp(model.clock.ms + 1)
  await expect(refused).rejects.toMatchObject({ code: 'Unavailable', details: { node: 1 } })
  const { id } = await one.names.backUp(model.clock.ms + 1)
  expect(one.names.backups.list().map((backup) => backup.id)).toEqual([id])
  // What it needs is kept by all.
  await model.remove(two, 'key')
  await rounds([one, two], 10)
  await model.reclaim(one)
  await rounds([one, two], 10)
  await model.reclaim(one)
  await model.check()
  await one.names.dropBackup(id)
  await rounds([one, two], 3)
  expect(two.names.status().backups).toBe(0)
})

describe('C17, nodes that come and go', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'what the remote store holds is a state that was, with all its bytes (seed %i)',
    async (seed) => {
      model = new SharedModel(seed, seed % 2 === 0 ? { basedOnBytesMin: 2000 } : {})
      for (const number of [1, 2, 3]) await model.start(number)
      await must(model.nodes.get(1), 'node').namespace.createBucket({
        name: 'bucket',
        owner: 'o',
        region: 'r',
        ack: 'journal',
      })
      let states = 0
      // How soon there is a first one depends on the machine. A test that finds few would show nothing.
      for (let step = 0; step < 400 || states < 150; step++) {
        expect(step, `${states} states in so many steps`).toBeLessThan(2000)
        await act(step)
        model.clock.ms += Math.floor(model.random() * 3000)
        if (await model.check()) states++
        expect(await model.unnamed()).toEqual([])
      }
      for (const node of model.nodes.values()) {
        model.resume(node)
        model.alive.add(node.incarnation)
      }
      await model.persistAll()
      const all = [...model.nodes.values()]
      const revision = must(all[0], 'node').namespace.revision()
      await until(() => all.every(({ names }) => names.status().shippedThrough >= revision), all)
      await rounds(all, 6, 61_000)
      const state = must(await model.check(), 'state')
      expect(model.holders).toHaveLength(1)
      // Nothing is left behind but what the state needs.
      const needed = 1 + state.base.parts.length + state.deltas.length
      expect(
        model.objects.size - [...model.objects.keys()].filter((name) => name.startsWith('backups/')).length,
      ).toBeLessThan(needed + 40)
    },
    120_000,
  )
})

const KEYS = Array.from({ length: 10 }, (_, index) => `key-${index}`)

async function act(step: number): Promise<void> {
  const { random, nodes } = model
  const node = must([...nodes.values()][Math.floor(random() * nodes.size)], 'node')
  const key = must(KEYS[Math.floor(random() * KEYS.length)], 'key')
  const actions: readonly (readonly [weight: number, () => Promise<unknown> | void])[] = [
    [10, () => model.put(node, key)],
    [4, () => model.putPersisted(node, key)],
    [4, () => model.remove(node, key).catch(ignoreAbsence)],
    [6, () => persistOne()],
    [6, () => model.reclaim(node)],
    [24, () => model.round(node)],
    [2, () => model.pause(node)],
    [3, () => model.resume(node)],
    [2, () => model.vanish(node)],
    [4, () => void model.alive.add(node.incarnation)],
    [1, () => model.restart(node)],
    [1, () => (node.gate ? undefined : node.names.backUp(model.clock.ms - 1).catch(() => undefined))],
  ]
  if (step === 0) return
  let at = random() * actions.reduce((sum, [weight]) => sum + weight, 0)
  for (const [weight, action] of actions) if ((at -= weight) < 0) return void (await action())
}

async function persistOne(): Promise<void> {
  const some = [...model.local.keys()]
  const segment = some[Math.floor(model.random() * some.length)]
  if (segment) await model.persist(segment)
}

function ignoreAbsence(error: unknown): void {
  if (!(error instanceof TidegateError)) throw error
}
