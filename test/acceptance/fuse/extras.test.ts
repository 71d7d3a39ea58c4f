/** What a mount has beside the files: `.tidegate`, computed attributes, metrics, and mounting while the gateway runs. */
// needs: python3 getfattr
import { mkdtemp, mkdir, rm, rmdir, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { runTidegate } from '../../support/command-line.ts'
import { shell, startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'
import { sendSigned } from '../../support/signed-calls.ts'

const KV = '.tidegate/kv/first'
const TWO_MOUNTS = fileURLToPath(new URL('./coherence/two-mounts.py', import.meta.url))
/** The kernel is told from another thread, after what is told has been answered. */
const TOLD_MS_MAX = 10_000
const isRoot = process.geteuid?.() === 0

let mounted: MountedGateway

async function s3(method: string, key: string, body?: string): Promise<{ status: number; body: string }> {
  const call = { method, target: `/first/${key}`, ...(body === undefined ? {} : { body }) }
  const response = await sendSigned(mounted.gateway, call)
  return { status: response.status, body: response.body.toString() }
}

/** Output and complaints of a script at the root of the mount. */
async function see(script: string): Promise<string> {
  const { stdout, stderr } = await mounted.shell(script)
  return (stdout + stderr).trim()
}

/** Runs a script while a file that was written is kept open, without a close in between, which would publish it. */
function holding(path: string, bytes: number, script: string): string {
  const holder = [
    'import os, sys',
    `held = os.open("${path}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)`,
    `os.write(held, bytes(${bytes}))`,
    'print(flush=True)',
    'sys.stdin.read()',
  ]
  return `coproc python3 -c '${holder.join('\n')}'
    read -u "\${COPROC[0]}"; ${script}; exec {COPROC[1]}>&-; wait`
}

describe.skipIf(unmetNeeds() !== undefined)('.tidegate', () => {
  beforeAll(async () => {
    mounted = await startMounted(['--buckets', 'first'])
  })
  afterAll(() => mounted?.stop())

  it('lies at the root, beside the buckets, and cannot be changed', async () => {
    expect(await see('ls -A; ls -A .tidegate')).toBe('first\nkv\nstats')
    expect(await see('stat -c "%A %F" .tidegate .tidegate/stats .tidegate/kv')).toBe(
      ['dr-xr-xr-x directory', '-r--r--r-- regular empty file', 'drwx------ directory'].join('\n'),
    )
    const attempts = [
      'rmdir .tidegate',
      'mv .tidegate x',
      'mkdir .tidegate/x',
      'touch .tidegate/x',
      'rm .tidegate/stats',
    ]
    attempts.push('echo > .tidegate/stats', 'chmod 777 .tidegate', 'mv .tidegate/stats x', `mkdir ${KV}/x`)
    attempts.push(
      `ln -s a ${KV}/x`,
      `rmdir ${KV}`,
      'mkdir .tidegate/kv/other',
      'setfattr -n user.a -v 1 .tidegate/stats',
    )
    const { stderr } = await mounted.shell(`${attempts.join('; ')}; ls x`)
    const said = stderr.trim().split('\n')
    expect(said).toHaveLength(attempts.length + 1)
    expect(said.pop()).toContain('No such file')
    for (const line of said) expect(line).toMatch(/not permitted|cannot move/)
    expect(await see('stat .tidegate/nothing .tidegate/kv/nothing 2>&1 | grep -c "No such file"')).toBe('2')
  })

  it('has statistics that people and scripts can read, made at each open', async () => {
    const read = async (): Promise<Map<string, number>> => {
      const text = await see('cat .tidegate/stats')
      return new Map(
        text.split('\n').map((line) => {
          expect(line).toMatch(/^[a-z0-9_]+ -?[0-9.e+-]+$/)
          const [name = '', value] = line.split(' ')
          return [name, Number(value)]
        }),
      )
    }
    const before = await read()
    await see('stat first/absent; echo x > first/held')
    const after = await read()
    const grown = (name: string): number => (after.get(name) ?? 0) - (before.get(name) ?? 0)
    expect(grown('mount_requests_lookup')).toBeGreaterThan(0)
    expect(grown('mount_requests_write')).toBe(1)
    for (const name of ['mount_handles', 'mount_dirty_bytes', 'cache_hits', 'journal_syncs', 'mount_notifications'])
      expect(after.get(name)).toBeGreaterThanOrEqual(0)
    const held = await see(holding('first/held', 10, 'cat .tidegate/stats'))
    expect(held).toMatch(/^mount_handles [1-9]/m)
    expect(held).toMatch(/^mount_dirty_bytes [1-9]/m)
    expect(await see('cp .tidegate/stats /dev/stdout | head -c 5; grep -c cache .tidegate/stats')).toMatch(/^mount\d+$/)
    await see('rm first/held')
  })

  it('shows every key of a bucket as one name, also those that the tree cannot show', async () => {
    const keys = ['a', 'a/', 'a//b', 'a/b', '.', 'x/..', '100%']
    // Dots as they are would be taken out of the path by who sends it.
    for (const key of keys) await s3('PUT', encodeURIComponent(key).replaceAll('.', '%2E'), `of ${key}`)
    const names = ['%2E', '100%25', 'a', 'a%2F', 'a%2F%2Fb', 'a%2Fb', 'x%2F..']
    expect(await see(`LC_ALL=C ls -A ${KV}`)).toBe(names.join('\n'))
    expect(await see(`cd ${KV} && for name in *; do cat "$name"; echo; done`)).toContain('of a//b')
    expect(await see(`cat ${KV}/%2E ${KV}/a ${KV}/a%2F`)).toBe('of .of aof a/')
    expect(await see(`stat -c %i ${KV}/a%2Fb first/a/b | uniq | wc -l`)).toBe('1')
    expect(await see(`rm ${KV}/*; ls -A first`)).toBe('')
    for (const key of keys) expect((await s3('GET', encodeURIComponent(key).replaceAll('.', '%2E'))).status).toBe(404)
  })

  it('reads, writes, cuts, makes and removes keys', async () => {
    expect(await see(`echo one > ${KV}/new%2Fdeep%2Fkey; cat first/new/deep/key`)).toBe('one')
    expect((await s3('GET', 'new/deep/key')).body).toBe('one\n')
    await see(`echo two >> ${KV}/new%2Fdeep%2Fkey; truncate -s 6 ${KV}/new%2Fdeep%2Fkey`)
    expect((await s3('GET', 'new/deep/key')).body).toBe('one\ntw')
    expect(await see(`set -C; echo x > ${KV}/new%2Fdeep%2Fkey`)).toContain('cannot overwrite')
    expect(await see(`ln ${KV}/new%2Fdeep%2Fkey ${KV}/other`)).toContain('cross-device')
    expect(await see(`mv ${KV}/new%2Fdeep%2Fkey ${KV}/moved%2Fkey && find first | sort`)).toBe(
      'first\nfirst/moved\nfirst/moved/key',
    )
    expect(await see(`mv first/moved/key ${KV}/again && cat first/again; rm ${KV}/again`)).toBe('one\ntw')
    expect(await see(`echo x > ${KV}/100%`)).toContain('Invalid argument')
    expect(await see(`touch ${KV}/$(printf "%%2F%.0s" $(seq 86))`)).toContain('File name too long')
    // The directory that a rename left is the mount's own; the one of the key is gone with it.
    expect(await see('find first')).toBe('first\nfirst/moved')
    await see('rmdir first/moved')
  })

  it('keeps an open file that is removed, whichever way (C27)', async () => {
    await s3('PUT', 'held/key', 'content')
    expect(await see(`exec 3< ${KV}/held%2Fkey; rm ${KV}/held%2Fkey; cat <&3; cat first/held/key`)).toMatch(
      /^content.*No such file/s,
    )
  })

  it('shows at once what S3 changes, and what the tree does', async () => {
    expect(await see(`cat ${KV}/b%2Fkey`)).toContain('No such file')
    await s3('PUT', 'b/key', 'first')
    expect(await see(`cat ${KV}/b%2Fkey`)).toBe('first')
    await s3('PUT', 'b/key', 'second, longer')
    expect(await see(`cat ${KV}/b%2Fkey; stat -c " %s" ${KV}/b%2Fkey`)).toBe('second, longer 14')
    await see('mv first/b first/c')
    expect(await see(`ls ${KV}`)).toBe('c%2Fkey')
    await s3('DELETE', 'c/key')
    expect(await see(`cat ${KV}/c%2Fkey`)).toContain('No such file')
    await see('rm -rf first/*')
  })

  it('lists a bucket of many keys, and leaves out names that would be too long', async () => {
    const long = encodeURIComponent(`${'é'.repeat(120)}/${'/'.repeat(20)}`)
    expect((await s3('PUT', long, 'x')).status).toBe(200)
    await see('mkdir first/many && cd first/many && seq -f "%05g" 1500 | xargs touch')
    expect(await see(`ls ${KV} | wc -l; ls ${KV} | sort -u | wc -l; ls ${KV} | tail -1`)).toBe(
      '1501\n1501\nmany%2F01500',
    )
    await see(`rm -r first/many`)
    await s3('DELETE', long)
  })

  it.skipIf(!isRoot)('lets nobody but who mounted pass by the directories of a bucket', async () => {
    await see('mkdir -m 700 first/private && echo secret > first/private/file')
    const nobody = (script: string): Promise<string> => see(`setpriv --reuid 65534 --clear-groups bash -c '${script}'`)
    expect(await nobody('cat first/private/file')).toContain('Permission denied')
    expect(await nobody(`cat ${KV}/private%2Ffile`)).toContain('Permission denied')
    expect(await nobody('ls .tidegate/kv')).toContain('Permission denied')
    expect(await nobody('cat .tidegate/stats')).toContain('cache_hits')
    expect(await see(`cat ${KV}/private%2Ffile; rm -r first/private`)).toBe('secret')
  })
})

describe.skipIf(unmetNeeds() !== undefined)('computed attributes', () => {
  beforeAll(async () => {
    mounted = await startMounted(['--buckets', 'first'])
  })
  afterAll(() => mounted?.stop())

  const attribute = (name: string, path = 'first/dir/file'): Promise<string> =>
    see(`getfattr --only-values -n user.tidegate.${name} ${path}`)

  it('tell what S3 and KV know of a file', async () => {
    await s3('PUT', 'dir/file', 'content')
    expect(await attribute('key')).toBe('first/dir/file')
    expect(await attribute('key', 'first/dir')).toBe('first/dir/')
    expect(await attribute('etag')).toBe('9a0364b9e99bb480dd25e1f0284c8555')
    expect(await attribute('revision')).toMatch(/^[1-9]\d*$/)
    expect(await attribute('ack')).toBe('journal')
    expect(await attribute('cached')).toBe('memory=0 dirty=0 journal=0 remote=0 metadata=7')
    for (const [name, path] of [
      ['nothing', 'first/dir/file'],
      ['etag', 'first/dir'],
      ['cached', 'first/dir'],
      ['constructor', 'first/dir/file'],
    ])
      expect(await attribute(name ?? '', path)).toContain('No such attribute')
  })

  it('of the directory of the buckets: none, as `ls -l` of newer coreutils asks', async () => {
    expect(await see('getfattr -d .')).toBe('')
    expect(await attribute('key', '.')).toContain('No such attribute')
    expect(await see('setfattr -n user.mine -v 1 .')).toContain('not permitted')
    expect(await see('setfattr -x user.mine .')).toContain('not permitted')
  })

  it('are neither listed nor copied, and nobody sets them', async () => {
    await see('setfattr -n user.mine -v 1 first/dir/file; cp -a first/dir/file first/copy')
    expect(await see('getfattr first/copy | grep user')).toBe('user.mine')
    expect(await see('setfattr -n user.tidegate.key -v x first/copy')).toContain('not permitted')
    expect(await see('setfattr -n user.tidegate.mine -v x first/copy')).toContain('not permitted')
    expect(await see('setfattr -x user.tidegate.etag first/copy')).toContain('not permitted')
  })

  it('say where the bytes of a file are, through its whole life', async () => {
    const where = (path: string): Promise<string> => attribute('cached', path)
    const script = 'getfattr --only-values -n user.tidegate.cached first/big'
    expect(await see(holding('first/big', 100_000, script))).toBe(
      'memory=100000 dirty=100000 journal=0 remote=0 metadata=0',
    )
    await see('truncate -s 10M first/big; head -c 3000000 /dev/urandom >> first/big')
    expect(await where('first/big')).toBe('memory=3100000 dirty=0 journal=3100000 remote=0 metadata=0')
    await mounted.gateway.stop()
    await mounted.restart()
    expect(await where('first/big')).toBe('memory=0 dirty=0 journal=0 remote=3100000 metadata=0')
    await see('tail -c 3000000 first/big > /dev/null')
    expect(await where('first/big')).toMatch(
      /^memory=(3[01]\d{5}|[12]\d{6}) dirty=0 journal=0 remote=3100000 metadata=0$/,
    )
  })
})

describe.skipIf(unmetNeeds() !== undefined)('a mount made while the gateway runs', () => {
  let places: string
  beforeAll(async () => {
    mounted = await startMounted(['--buckets', 'first'])
    places = await mkdtemp(join(tmpdir(), 'tidegate-mounts-'))
    for (const name of ['one', 'two', 'full/inside']) await mkdir(join(places, name), { recursive: true })
  })
  afterAll(async () => {
    await mounted?.stop()
    await shell(`umount -l ${places}/one ${places}/two`)
    await rm(places, { recursive: true, force: true })
  })

  async function tidegate(...args: string[]): Promise<string> {
    const { accessKey, secretKey } = mounted.gateway.root
    const credentials = { TIDEGATE_ROOT_USER: accessKey, TIDEGATE_ROOT_PASSWORD: secretKey }
    const { output } = await runTidegate(args, { ...credentials, TIDEGATE_GATEWAY: mounted.gateway.http })
    return output.trim()
  }

  /** By HTTP, for a process of its own for each would take long. */
  async function refusal(directory: string): Promise<string> {
    const { accessKey, secretKey } = mounted.gateway.root
    const authorization = `Basic ${Buffer.from(`${accessKey}:${secretKey}`).toString('base64')}`
    const response = await fetch(`${mounted.gateway.http}/admin/v1/mounts`, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: JSON.stringify({ directory }),
    })
    expect(response.status).toBe(400)
    return await response.text()
  }

  it('serves the same files, beside others', async () => {
    const [one, two] = [join(places, 'one'), join(places, 'two')]
    expect(await tidegate('mount', one)).toBe(`mounted ${one}`)
    expect(await tidegate('mount', two)).toBe(`mounted ${two}`)
    expect(await tidegate('mount', '--list')).toBe([mounted.mountPoint, one, two].join('\n'))
    const { stdout } = await shell(`echo shared > ${one}/first/file && cat ${two}/first/file && ls -A ${two}`)
    expect(stdout).toBe('shared\nfirst\n')
    expect(await see('cat first/file')).toBe('shared')
    // What the kernel keeps for one mount, it is told to forget when another publishes.
    await shell(`echo changed > ${two}/first/file`)
    await expect.poll(() => see('cat first/file'), { timeout: TOLD_MS_MAX }).toBe('changed')
    expect((await s3('GET', 'file')).body).toBe('changed\n')
  })

  it('shows to who holds a file open what another mount has written, once it is closed or the holder calls fsync', async () => {
    const one = join(places, 'one')
    expect((await shell(`mkdir ${one}/first/held`)).code).toBe(0)
    const { stdout, stderr } = await shell(`python3 ${TWO_MOUNTS} ${mounted.mountPoint}/first/held ${one}/first/held`)
    expect(stderr).toBe('')
    const expectations = ['before', 'by the descriptor', 'by a new open']
    const names = ['closed', 'synced', 'synced and longer']
    const lines = names.flatMap((name) => expectations.map((what) => `${name}, ${what}: as expected`))
    expect(stdout.trimEnd().split('\n')).toEqual(lines)
    await see('rm -r first/held')
  })

  it('is refused in words where it cannot be', async () => {
    const [inside, linked] = [join(mounted.data, 'inside'), join(places, 'linked')]
    await mkdir(inside)
    await symlink(inside, linked)
    const refusals = [
      [places, 'not an empty directory'],
      [join(places, 'full'), 'not an empty directory'],
      [join(places, 'one'), 'there is a mount already'],
      [join(places, 'nothing'), 'ENOENT'],
      [join(mounted.mountPoint, 'first'), 'it lies in the mount'],
      [join(mounted.data, '..'), 'may not lie in each other'],
      [inside, 'may not lie in each other'],
      [linked, 'may not lie in each other'],
    ] as const
    for (const [place, reason] of refusals) expect(await refusal(place)).toContain(reason)
    expect(await tidegate('mount', places)).toContain('not an empty directory')
    expect(await tidegate('mount')).toContain('DIR is missing')
    const wrong = { TIDEGATE_ROOT_PASSWORD: 'wrong', TIDEGATE_GATEWAY: mounted.gateway.http }
    expect((await runTidegate(['mount', join(places, 'full')], wrong)).output).toContain('Unauthenticated')
    await rmdir(inside)
  })

  it('counts into the metrics of the gateway', async () => {
    const text = await (await fetch(`${mounted.gateway.http}/metrics`)).text()
    expect(text).toMatch(/^tidegate_mount_requests_total\{operation="INIT"\} 3$/m)
    expect(text).toMatch(/^tidegate_mount_requests_total\{operation="WRITE"\} [1-9]/m)
    expect(text).toMatch(/^tidegate_mount_request_duration_seconds_count\{operation="LOOKUP"\} [1-9]/m)
    expect(text).toMatch(/^tidegate_mount_errors_total\{errno="[A-Z]+"\} [1-9]/m)
    expect(text).toMatch(/^tidegate_mount_notifications_total [1-9]/m)
    expect(text).toMatch(/^tidegate_mount_handles 0$/m)
  })

  it('goes with tidegate umount, and the gateway goes on', async () => {
    const one = join(places, 'one')
    expect(await tidegate('umount', one)).toBe(`unmounted ${one}`)
    expect(await tidegate('mount', '--list')).not.toContain(one)
    expect((await shell(`ls -A ${one}`)).stdout).toBe('')
    expect(await tidegate('mount', one)).toBe(`mounted ${one}`)
    expect((await shell(`cat ${one}/first/file`)).stdout).toBe('changed\n')
  })

  it('ends with the gateway, with what was written through it published, and does not come back', async () => {
    const two = join(places, 'two')
    expect((await shell(`echo last > ${two}/first/last`)).code).toBe(0)
    expect(await mounted.gateway.stop()).toBe(0)
    expect((await shell(`ls -A ${two} ${places}/one; grep -c ${places} /proc/mounts`)).stdout).toMatch(/:\n\n.*:\n0\n$/)
    await mounted.restart()
    expect(await tidegate('mount', '--list')).toBe(mounted.mountPoint)
    expect((await s3('GET', 'last')).body).toBe('last\n')
  })
})
