// needs: etcd
/** A node of three is lost under writers: the short form of `npm run node-loss`. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { NodeLossRounds } from './node-loss/rounds.ts'

const rounds = new NodeLossRounds()
beforeAll(() => rounds.start())
afterAll(() => rounds.end())

it('a node is killed: nothing acknowledged as replicated is lost (C17, C23)', async () => {
  const result = await rounds.run({ seed: testSeed(), loss: 'killed' })
  console.log(JSON.stringify(result))
  expect(result.acknowledged).toBeGreaterThan(0)
})

it('a node is paused past its grace: when it goes on it publishes nothing and deletes nothing (C23)', async () => {
  const result = await rounds.run({ seed: testSeed() + 1, loss: 'paused' })
  console.log(JSON.stringify(result))
  expect(result.acknowledged).toBeGreaterThan(0)
})
