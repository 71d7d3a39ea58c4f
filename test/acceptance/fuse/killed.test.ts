/** The gateway killed while many use the mount: each gets an error within seconds, and none hangs (C20 is the matter of mount-crash). */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { shell, startMounted } from '../../support/mounted-gateway.ts'

const USED_MS = 2000
const NOTICED_MS_MAX = 10_000
const GONE = /Transport endpoint is not connected|Software caused connection abort|Input\/output error/

/** Each goes on until something fails, and says what. */
const USERS: Readonly<Record<string, string>> = {
  'writes and closes': 'while head -c 50000 /dev/zero > written; do :; done',
  'writes and syncs': 'while dd if=/dev/zero of=synced bs=20000 count=5 conv=fsync status=none; do :; done',
  'writes one large file': 'dd if=/dev/zero of=large bs=1M count=100000 status=none',
  'reads around the page cache': 'while dd if=data of=/dev/null bs=1M iflag=direct status=none; do :; done',
  'reads by the page cache': 'while cat data > /dev/null; do :; done',
  lists: 'while ls -l many > /dev/null; do :; done',
  'makes and removes': 'while touch made && rm made; do :; done',
  renames: 'touch a; while mv a b && mv b a; do :; done',
  'holds a lock': 'while flock lock sleep 1; do :; done',
  'waits for a lock': 'flock lock sleep 8 & sleep 1; flock lock true',
}

it.skipIf(unmetNeeds() !== undefined)('ends everybody soon, and comes back', { timeout: 120_000 }, async () => {
  const mounted = await startMounted(['--buckets', 'first'])
  try {
    const begin = 'head -c 20000000 /dev/urandom > data; touch lock; mkdir many; cd many; touch $(seq 500)'
    expect(await mounted.shell(begin, 'first')).toMatchObject({ code: 0, stderr: '' })
    const users = Object.entries(USERS).map(async ([what, script]) => {
      const { stderr } = await mounted.shell(script, 'first')
      return { what, stderr, endedMs: Date.now() }
    })
    const first = await Promise.race([...users, sleep(USED_MS)])
    expect(first, 'everybody works while the gateway does').toBeUndefined()
    await mounted.gateway.kill()
    const killedMs = Date.now()
    for (const { what, stderr, endedMs } of await Promise.all(users)) {
      expect(stderr, what).toMatch(GONE)
      expect(endedMs - killedMs, `${what}, ms`).toBeLessThan(NOTICED_MS_MAX)
    }
    const asked = await shell(
      `ls ${mounted.mountPoint}; stat ${mounted.mountPoint}/first/data; touch ${mounted.mountPoint}/x`,
    )
    expect(asked.stderr.match(/Transport endpoint is not connected/g)).toHaveLength(3)
    await mounted.restart()
    expect((await mounted.shell('ls many | wc -l; rm -r many; touch again', 'first')).stdout).toBe('500\n')
  } finally {
    await mounted.stop()
  }
})
