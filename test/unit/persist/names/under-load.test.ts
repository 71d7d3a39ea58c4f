/** Names arrive while more is written than fits a capture, and what a capture waits for is safe from its first moment on. */
import { expect, it } from 'vitest'
import { Model } from './model.ts'

it('a base is completed, and deltas go on, while each interval changes more than a capture may hold', async () => {
  const model = new Model(9, { deltaBytesMax: 4000 })
  await model.start()
  // Several parts, so that a base takes longer than an interval.
  const body = 'x'.repeat(4096)
  for (let old = 0; old < 3000; old++) await model.putBytes(`old-${old}`, body)
  await model.namespace.flush()
  const wrote = async (): Promise<void> => {
    for (let put = 0; put < 25; put++) await model.put(`new-${put}`, 'inline')
    await model.namespace.flush()
  }
  for (let interval = 0; interval < 40; interval++) {
    await wrote()
    model.clock.ms += 1000
    await model.stream.round()
  }
  const { shippedThrough } = model.stream.status()
  expect(shippedThrough).toBeGreaterThan(0)
  for (let interval = 0; interval < 10; interval++) {
    await wrote()
    model.clock.ms += 1000
    await model.stream.round()
  }
  expect(model.stream.status().shippedThrough).toBeGreaterThan(shippedThrough)
  await model.check()
  await model.stop()
})

it('C22: a segment is held from the turn of the capture on', async () => {
  const model = new Model(10)
  await model.start()
  for (let put = 0; put < 6; put++) {
    model.clock.ms += 1100
    await model.stream.round()
  }
  await model.put('key', 'run')
  await model.namespace.flush()
  const segment = model.open
  const heldThen: boolean[] = []
  model.atCapture = () => heldThen.push(model.stream.holds(segment))
  model.clock.ms += 1100
  await model.stream.round()
  expect(heldThen).toEqual([true])
  expect(model.stream.holds(segment)).toBe(true)
  await model.persist(segment)
  model.clock.ms += 1100
  await model.stream.round()
  expect(model.stream.holds(segment)).toBe(false)
  await model.stop()
})
