import { describe, expect, it } from 'vitest'
import { Model } from './model.ts'

const KEYS = Array.from({ length: 12 }, (_, index) =>
  index % 3 === 0 ? `dir-${index % 2}/key-${index}` : `key-${index}`,
)
const STEPS = 350

const SHAPES = [
  { name: 'plenty of room', options: {} },
  { name: 'a new base again and again', options: { basedOnBytesMin: 3000 } },
  { name: 'deltas that are soon too large', options: { deltaBytesMax: 4000 } },
  { name: 'a key log that is soon too short', options: { logBytesMax: 2000 } },
]

/** What happens next, and how often. */
const ACTIONS: readonly (readonly [weight: number, (model: Model) => Promise<unknown>])[] = [
  [8, (model) => model.put(keyOf(model), 'inline')],
  [8, (model) => model.put(keyOf(model), 'run')],
  [4, (model) => model.putPersisted(keyOf(model))],
  [4, (model) => model.namespace.remove({ bucket: 'bucket', key: keyOf(model), conditions: {}, owner: 'o' })],
  [
    2,
    (model) =>
      model.namespace.rename({ bucket: 'bucket', from: 'dir-0/', to: 'dir-1/', replace: false }).catch(() => undefined),
  ],
  [2, (model) => model.openSegment()],
  [4, (model) => persistOne(model)],
  [5, (model) => model.reclaim()],
  [12, (model) => round(model)],
  [1, (model) => model.stream.backUp(model.clock.ms - 1).catch(() => undefined)],
  [1, (model) => dropOne(model)],
  [1, (model) => model.crash()],
  [2, (model) => model.namespace.flush()],
]

describe.each(SHAPES)('C17, $name', ({ options }) => {
  it.each([1, 2, 3, 4, 5, 6])(
    'what the remote store holds is a state that was, with all its bytes, whatever fails (seed %i)',
    async (seed) => {
      const model = new Model(seed, options)
      await model.start()
      model.remote.faults.chanceKinds = ['unavailable', 'torn', 'lost-acknowledgement']
      let states = 0
      for (let step = 0; step < STEPS; step++) {
        if (step % 60 === 0) model.remote.faults.chance = [0, 0.2, 0.5][Math.floor(model.random() * 3)]!
        await actionOf(model)(model)
        model.clock.ms += Math.floor(model.random() * 400)
        await model.settle()
        if (await model.check()) states++
        expect(await model.unnamed()).toEqual([])
      }
      model.remote.faults.chance = 0
      for (const segment of model.local) if (segment !== model.open) await model.persist(segment)
      await model.persist(model.open)
      await drained(model)
      const state = await model.check()
      expect(states).toBeGreaterThan(STEPS / 4)
      expect(model.stream.status().shippedThrough).toBe(model.namespace.durableRevision())
      expect(state?.revision).toBeGreaterThan(0)
      // Nothing is left behind but what state and backups need.
      model.clock.ms += 120_000
      await model.stream.round()
      expect(model.objects.size).toBeLessThan(200)
      await model.stop()
    },
  )
})

function keyOf({ random }: Model): string {
  return KEYS[Math.floor(random() * KEYS.length)]!
}

function actionOf({ random }: Model): (model: Model) => Promise<unknown> {
  let at = random() * ACTIONS.reduce((sum, [weight]) => sum + weight, 0)
  for (const [weight, action] of ACTIONS) if ((at -= weight) < 0) return action
  return ACTIONS[0]![1]
}

async function persistOne(model: Model): Promise<void> {
  const local = [...model.local]
  const segment = local[Math.floor(model.random() * local.length)]
  if (segment) await model.persist(segment)
}

async function round(model: Model): Promise<void> {
  for (let rounds = Math.floor(model.random() * 4); rounds >= 0; rounds--) {
    await model.stream.round().catch(() => undefined)
  }
}

async function dropOne(model: Model): Promise<void> {
  const [oldest] = model.stream.backups.list()
  if (oldest) await model.stream.dropBackup(oldest.id).catch(() => undefined)
}

async function drained(model: Model): Promise<void> {
  for (let rounds = 0; rounds < 40; rounds++) {
    model.clock.ms += 20_000
    await model.stream.round()
  }
}
