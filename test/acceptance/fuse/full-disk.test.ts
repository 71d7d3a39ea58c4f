/**
 * A full disk below the mount (C19): who writes gets ENOSPC, what was synced before is intact, and there is room again when
 * files are removed. On a small file system of its own, which only root can mount.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'

const DISK = 'size=96m'
const FLAGS = ['--disk-reserve', '24MiB', '--cache-memory', '32MiB', '--hash-workers', '1', '--buckets', 'full']
/** Sealed soon, so that what is removed is reclaimed soon; and a short wait for room. */
const SEGMENTS = ['--segment-size', '8MiB', '--segment-age', '300ms', '--admission-wait', '3s']
const ROOM_SECONDS_MAX = 45

const directory = mkdtempSync(join(tmpdir(), 'tidegate-full-mount-'))
const disk = join(directory, 'disk')
const digests = join(directory, 'digests')
const check = `sha1sum --quiet -c ${digests}; echo checked`
mkdirSync(disk)
const isReady = unmetNeeds() === undefined && mountDisk()
afterAll(() => {
  if (isReady) execFileSync('umount', [disk])
  rmSync(directory, { recursive: true })
})

function mountDisk(): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', DISK, 'tmpfs', disk], { stdio: 'pipe' })
    return true
  } catch {
    // A container without the right to mount.
    return false
  }
}

/**
 * Synced files of 3 MiB until one is refused; says how many there are, and why no more. The digests lie outside the mount: they
 * must outlive the kill whole, and sha1sum does not name the cause when its own output is refused.
 */
const FILL = `n=0; while [ $n -lt 100 ]; do
  head -c 3145728 /dev/urandom > $n.new && sync $n.new && mv $n.new $n || break
  sha1sum $n >> $digests || break
  n=$((n + 1)); done 2> $log; rm -f *.new; echo $n; cat $log`

it.skipIf(!isReady)('is told as ENOSPC, survived and left behind', { timeout: 240_000 }, async () => {
  const mounted = await startMounted([...FLAGS, ...SEGMENTS], { data: join(disk, 'data') })
  try {
    const [filled = '0', ...refusals] = await lines(mounted, `log=${directory}/log digests=${digests}\n${FILL}`)
    expect(Number(filled)).toBeGreaterThan(5)
    expect(readFileSync(digests, 'utf8').trim().split('\n')).toHaveLength(Number(filled))
    expect(refusals.join('\n')).toMatch(/No space left on device/)
    expect(refusals.join('\n')).not.toMatch(/Input\/output error|not connected/)

    // Still full, for one large file and for a file that was there; reading goes on.
    const large = 'head -c 40000000 /dev/zero | tr "\\\\0" x > large; sync large; rm -f large'
    expect((await mounted.shell(large, 'full')).stderr).toMatch(/No space left on device/)
    expect(await lines(mounted, check)).toEqual(['checked'])

    await mounted.gateway.kill()
    await mounted.restart()
    expect(await lines(mounted, check)).toEqual(['checked'])

    const again = `rm -f [0-9]*; for second in $(seq ${ROOM_SECONDS_MAX}); do
      head -c 12000000 /dev/zero | tr "\\\\0" y > again && sync again && break; sleep 1; done 2> /dev/null
      tr -d y < again | wc -c; stat -c %s again`
    expect(await lines(mounted, again)).toEqual(['0', '12000000'])
    expect(await mounted.gateway.stop()).toBe(0)
  } finally {
    await mounted.stop()
  }
})

async function lines(mounted: MountedGateway, script: string): Promise<string[]> {
  const { stdout, stderr, code } = await mounted.shell(script, 'full', 100_000)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return stdout.trim().split('\n')
}
