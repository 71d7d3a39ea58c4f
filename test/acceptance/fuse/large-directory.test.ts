/** One directory of very many entries, which programs filled by the KV door. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createKvClient } from '../../../src/client/kv-client.ts'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'
import { isLong } from './long.ts'

const ENTRIES = isLong ? 1_000_000 : 20_000
const BATCH_OPERATIONS = 1000
const BATCHES_AT_ONCE = 4
const STEP_MS_MAX = isLong ? 900_000 : 60_000
/** Looking up one name out of many, by a new process, on a machine that does other things as well. */
const LOOKUP_MS_MAX = 3000
const REMOVED = 500

describe.skipIf(unmetNeeds() !== undefined)(`a directory of ${ENTRIES} entries`, { timeout: 2 * STEP_MS_MAX }, () => {
  let mounted: MountedGateway
  beforeAll(async () => {
    mounted = await startMounted(['--buckets', 'first'])
    await timed('filled by KV batches', fill)
  }, STEP_MS_MAX)
  afterAll(() => mounted?.stop())

  async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
    const startedMs = performance.now()
    const result = await work()
    console.log(`${ENTRIES} entries, ${what}: ${((performance.now() - startedMs) / 1000).toFixed(2)} s`)
    return result
  }

  async function fill(): Promise<void> {
    const { http: url, root } = mounted.gateway
    const client = createKvClient({ url, bucket: 'first', ...root })
    let next = 0
    const work = async (): Promise<void> => {
      for (let from = next; from < ENTRIES; from = next) {
        next += BATCH_OPERATIONS
        const names = Array.from({ length: BATCH_OPERATIONS }, (_, index) => from + index)
        const results = await client.batch(
          names.map((number) => ({ op: 'put', key: `large/entry-${number}`, value: String(number) }) as const),
        )
        expect(results.find(({ status }) => status !== 200)).toBeUndefined()
      }
    }
    await Promise.all(Array.from({ length: BATCHES_AT_ONCE }, work))
    client.close()
  }

  async function run(script: string): Promise<string> {
    const { stdout, stderr, code } = await mounted.shell(`set -e\n${script}`, 'first', STEP_MS_MAX)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return stdout.trim()
  }

  it('is listed whole, first and again', async () => {
    // With `.` and `..`.
    expect(await timed('ls -f', () => run('ls -f large | wc -l'))).toBe(String(ENTRIES + 2))
    expect(await timed('ls -f again', () => run('ls -f large | wc -l'))).toBe(String(ENTRIES + 2))
    expect(await timed('ls -l', () => run('ls -l large | wc -l'))).toBe(String(ENTRIES + 1))
  })

  it('finds one name without looking at the others', async () => {
    for (const number of [0, ENTRIES >> 1, ENTRIES - 1]) {
      const startedMs = performance.now()
      expect(await run(`cat large/entry-${number}; stat -c ' %s' large/entry-${number}`)).toBe(
        `${number} ${String(number).length}`,
      )
      expect(performance.now() - startedMs).toBeLessThan(LOOKUP_MS_MAX)
    }
    expect(await run('test ! -e large/absent && echo absent')).toBe('absent')
  })

  it('is listed with each entry once while others are made and removed', async () => {
    const names = `${mounted.mountPoint}-names`
    const change = `n=0; while test ! -e stop; do
      : > large/zz-$((n % 8)); : > large/a-$((n % 8)); n=$((n + 1))
      test $((n % 8)) != 0 || rm large/zz-* large/a-*; done`
    const count = `for turn in 1 2 3; do
      ls -f large | grep ^entry- | sort > ${names}; uniq -d ${names} | wc -l; wc -l < ${names}; done; touch stop; rm ${names}`
    const changing = run(change)
    const counted = await timed('ls -f three times meanwhile', () => run(count))
    await changing
    await run('rm -f stop large/zz-* large/a-*')
    expect(counted.split('\n')).toEqual(['0', String(ENTRIES), '0', String(ENTRIES), '0', String(ENTRIES)])
  })

  it('gives up some of its entries, and its name', async () => {
    const some = `cd large; rm $(seq -f 'entry-%.0f' 0 ${REMOVED - 1})`
    await timed(`rm of ${REMOVED}`, () => run(some))
    expect(await run('ls -f large | wc -l')).toBe(String(ENTRIES - REMOVED + 2))
    await timed('mv of the directory', () => run('mv large moved; test ! -e large'))
    expect(await run(`cat moved/entry-${ENTRIES - 1}; ls -f moved | wc -l`)).toBe(
      `${ENTRIES - 1}${ENTRIES - REMOVED + 2}`,
    )
  })
})
