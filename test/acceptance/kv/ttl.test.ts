/** Times to live under load, in the short form of `npm run ttl-test`. */
import { expect, it } from 'vitest'
import { useDirectory } from '../../support/gateway-suite.ts'
import { Random } from '../../model/random.ts'
import { proveExpiry } from './expiry-proof.ts'

const directory = useDirectory()

it('C31: of 5,000 keys that expire within 5 s none is served late, and all space comes back', async () => {
  const random = new Random(1)
  const outcome = await proveExpiry({ directory: directory.path, keys: 5000, ttlSecondsMax: 5, random })
  expect(outcome.violations.slice(0, 20)).toEqual([])
  expect(outcome.left).toEqual([])
  expect(outcome.keys).toBe(5000)
  // Or nothing was shown by any of it.
  expect(outcome.askedAfter).toBeGreaterThan(500)
  expect(outcome.shown).toBeGreaterThan(100)
  expect(outcome.listings).toBeGreaterThan(5)
  expect(outcome.prefixListings).toBeGreaterThan(5)
  expect(outcome.segmentBytesMax).toBeGreaterThan(0)
}, 120_000)
