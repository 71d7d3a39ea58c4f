/** `npm run ttl-test -- [--keys N] [--seconds N] [--seed S]`: 100,000 keys with times to live of up to 60 s; none is served late, all space comes back. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Random } from '../../model/random.ts'
import { proveExpiry } from './expiry-proof.ts'

const SHOWN_MAX = 20

const { values } = parseArgs({
  options: {
    keys: { type: 'string', default: '100000' },
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
  },
})
const directory = await mkdtemp(join(tmpdir(), 'tidegate-ttl-'))
const say = (text: string): void => void process.stdout.write(`${text}\n`)
say(`seed ${values.seed}`)
try {
  const outcome = await proveExpiry({
    directory,
    keys: Number(values.keys),
    ttlSecondsMax: Number(values.seconds),
    random: new Random(Number(values.seed)),
    note: say,
  })
  const { askedAfter, shown, listings, prefixListings, violations, left } = outcome
  say(`${askedAfter} answers about single keys after their expiry, ${shown} before it; ${listings} listings`)
  say(`${prefixListings} listings of common prefixes; one was shown ${outcome.prefixLateMs} ms late at most`)
  say(`${outcome.segmentBytesMax} bytes in segments, all back ${outcome.spaceBackMs} ms after the last expiry`)
  for (const wrong of [...violations, ...left].slice(0, SHOWN_MAX)) say(`WRONG: ${wrong}`)
  const failed = violations.length + left.length
  say(failed === 0 ? '1 passed, 0 failed' : `0 passed, 1 failed: ${failed} findings`)
  process.exitCode = failed === 0 ? 0 : 1
  if (failed === 0) await rm(directory, { recursive: true })
  else say(`left for a look: ${directory}`)
} catch (error) {
  say(`${(error as Error).stack}\nleft for a look: ${directory}`)
  process.exitCode = 1
}
