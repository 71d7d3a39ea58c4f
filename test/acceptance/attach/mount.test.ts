/** A shell in the mount of an attached bucket, and what it leaves outside. */
// needs: git
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { ListObjectsV2Command } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { carriedOut } from '../../support/attached-buckets.ts'
import { externalS3Lack } from '../../support/external-s3-program.ts'
import { AttachedPlace, BUCKET, eventually, write } from './attached-place.ts'

const TEST_MS_MAX = 240_000
const MIB = 1024 * 1024
const LARGE_BYTES = 24 * MIB
/** Where a megabyte is written into the large file. */
const EDIT_MIB = 9
const lack = (await externalS3Lack()) ?? unmetNeeds()

describe.skipIf(lack !== undefined)('the mount of an attached bucket', { timeout: TEST_MS_MAX }, () => {
  let place: AttachedPlace
  const requests: string[] = []
  const large = randomBytes(LARGE_BYTES)
  const kept = randomBytes(3 * MIB)

  beforeAll(async () => {
    place = await AttachedPlace.begin('external', { mounts: true })
    place.proxy.onRequest = ({ method, url, headers }) => {
      const isCopy = headers['x-amz-copy-source'] !== undefined
      requests.push(`${isCopy ? 'COPY' : method} ${decodeURIComponent(url ?? '')}`)
    }
    for (const key of ['deep/a/b/c/file', 'deep/a/other', 'docs/readme', 'docs/sub/one', 'docs/sub/two', 'top']) {
      await place.putOutside(key, `content of ${key}\n`)
    }
    await place.putOutside('large', large)
    await place.putOutside('open/kept', kept)
    await place.attach()
  }, TEST_MS_MAX)
  afterAll(() => place.end())

  /** Output of a script that must succeed, in the bucket. */
  const run = async (script: string): Promise<string> => {
    const { stdout, stderr, code } = await place.mounted.shell(`set -e\n${script}`, BUCKET)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return stdout.trim()
  }
  const same = async (): Promise<void> => {
    await run('sync')
    await carriedOut(place.gateway, BUCKET)
    await place.store.compare(place.gateway, BUCKET)
  }
  const textOutside = async (key: string): Promise<string | undefined> => (await place.getOutside(key))?.toString()

  it('opens a file that lies deep without listing whole directories', async () => {
    requests.length = 0
    expect(await run('cat deep/a/b/c/file')).toBe('content of deep/a/b/c/file')
    const lists = requests.filter((request) => request.includes('list-type=2'))
    expect(lists.filter((request) => !/max-keys=[12](?:&|$)/.test(request))).toEqual([])
  })

  it('ls -lR, find and df show what lies outside', async () => {
    expect(await run('find . -type f | LC_ALL=C sort')).toBe(
      './deep/a/b/c/file\n./deep/a/other\n./docs/readme\n./docs/sub/one\n./docs/sub/two\n./large\n./open/kept\n./top',
    )
    expect(await run('ls -lR')).toMatch(/ 25165824 .* large\n/)
    expect(await run('df -k . | tail -1')).toMatch(/%/)
  })

  it('cp carries files in and out, and diff finds none', async () => {
    await run('cp large /tmp/tidegate-$$; cmp large /tmp/tidegate-$$; cp /tmp/tidegate-$$ copied; rm /tmp/tidegate-$$')
    await run('mkdir -p new/dir; echo text > new/dir/text; ln -s text new/dir/link; cat new/dir/link')
    await same()
    expect((await place.getOutside('copied'))?.equals(large)).toBe(true)
    expect(await textOutside('new/dir/text')).toBe('text\n')
  })

  it('C32: an edit in the middle of a large file goes up with UploadPartCopy', async () => {
    requests.length = 0
    const patch = randomBytes(MIB)
    const from = place.at('patch')
    write(from, patch)
    await run(`dd if=${from} of=large bs=1M seek=${EDIT_MIB} conv=notrunc,fsync status=none`)
    await same()
    patch.copy(large, EDIT_MIB * MIB)
    expect((await place.getOutside('large'))?.equals(large)).toBe(true)
    expect(requests.filter((request) => /^COPY .*partNumber=/.test(request)).length).toBeGreaterThan(0)
  })

  it('an append and a truncation of what lies outside arrive', async () => {
    await run('echo more >> top; truncate -s 7 docs/readme')
    await same()
    expect(await textOutside('top')).toBe('content of top\nmore\n')
    expect(await textOutside('docs/readme')).toBe('content')
  })

  it('mv of files and of directories is one step here, and arrives outside', async () => {
    await run('mv copied docs/moved; mv docs papers; mv deep/a deep/z; ls')
    expect(await run('cat papers/sub/one deep/z/b/c/file')).toBe('content of docs/sub/one\ncontent of deep/a/b/c/file')
    await same()
    expect(await textOutside('papers/sub/two')).toBe('content of docs/sub/two\n')
    expect(await textOutside('docs/sub/two')).toBeUndefined()
    expect(await textOutside('deep/z/b/c/file')).toBe('content of deep/a/b/c/file\n')
    expect((await place.getOutside('papers/moved'))?.equals(large)).toBe(false)
    expect((await place.getOutside('papers/moved'))?.length).toBe(LARGE_BYTES)
  })

  it('rm -r takes away outside, too', async () => {
    await run('rm -r papers deep')
    await same()
    expect(await textOutside('papers/sub/two')).toBeUndefined()
    expect(await textOutside('deep/z/b/c/file')).toBeUndefined()
  })

  it('C32: a file that is open keeps its bytes when its name goes, and leaves nothing outside once it is closed', async () => {
    const [opened, readable] = [place.at('opened'), place.at('readable')]
    const reading = run(
      `exec 3< open/kept; rm open/kept; touch ${opened}; until [ -e ${readable} ]; do sleep 0.05; done; sha256sum <&3 | cut -d' ' -f1`,
    )
    await eventually('opened', async () => existsSync(opened), Boolean)
    await eventually(
      'gone outside',
      () => place.getOutside('open/kept'),
      (found) => found === undefined,
    )
    writeFileSync(readable, '')
    expect(await reading).toBe(createHash('sha256').update(kept).digest('hex'))
    await same()
    const { bucket } = place.store.remote
    const Prefix = `${place.store.prefix(BUCKET)}.tidegate-moving/`
    const left = async (): Promise<number> =>
      (await place.store.outside.send(new ListObjectsV2Command({ Bucket: bucket, Prefix }))).KeyCount ?? 0
    await eventually('nothing left', left, (count) => count === 0)
  })

  it('git clones into it, commits there, and fsck is content', async () => {
    await run(`
      export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1
      git init -q ${place.at('origin')}
      cd ${place.at('origin')}
      for n in $(seq 20); do mkdir -p d$n; echo "file $n" > d$n/file; done
      git add . ; git -c user.name=n -c user.email=e@x commit -qm first`)
    await run(`
      export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1
      git -c safe.directory='*' clone -q --no-hardlinks ${place.at('origin')} clone
      cd clone; echo changed > d1/file
      git -c safe.directory='*' -c user.name=n -c user.email=e@x commit -qam second
      git -c safe.directory='*' fsck --no-progress; git -c safe.directory='*' status --porcelain`)
    await same()
    expect(await textOutside('clone/d1/file')).toBe('changed\n')
    expect(await textOutside('clone/d20/file')).toBe('file 20\n')
  })

  it('hard links are refused (C32)', async () => {
    const { code, stderr } = await place.mounted.shell('ln top hard', BUCKET)
    expect([code, stderr]).toEqual([1, expect.stringMatching(/not permitted|not supported/i)])
  })
})
