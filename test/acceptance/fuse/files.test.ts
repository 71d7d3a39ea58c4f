/** The mount of a running gateway, used by the programs that everybody uses. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'

describe.skipIf(unmetNeeds() !== undefined)('the mount', () => {
  let mounted: MountedGateway
  beforeAll(async () => {
    mounted = await startMounted(['--buckets', 'first'])
  })
  afterAll(() => mounted?.stop())

  /** Output of a script that must succeed, in the bucket `first`. */
  async function run(script: string, directory = 'first'): Promise<string> {
    const { stdout, stderr, code } = await mounted.shell(`set -e\n${script}`, directory)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return stdout.trim()
  }

  it('shows the buckets as directories, and makes a bucket of a new one', async () => {
    expect(await run('mkdir second-bucket; ls', '.')).toBe('first\nsecond-bucket')
    expect(await run('rmdir second-bucket; ls', '.')).toBe('first')
  })

  it('keeps what is written, appended, truncated and renamed', async () => {
    await run('mkdir notes; echo hello > notes/a; echo world >> notes/a; mv notes/a notes/b')
    expect(await run('cat notes/b; stat -c "%s %F" notes/b')).toBe('hello\nworld\n12 regular file')
    expect(await run('truncate -s 3 notes/b; cat notes/b; : > notes/b; stat -c %s notes/b')).toBe('hel0')
  })

  it('gives back megabytes as they were, by the page cache and around it', async () => {
    await run('head -c 20000000 /dev/urandom > large; cp large copy; cmp large copy')
    await run('dd if=large of=direct bs=1M iflag=direct oflag=direct status=none conv=notrunc,fsync; cmp large direct')
    await run('dd if=large of=large bs=4096 count=3 seek=100 conv=notrunc status=none')
    await run('cmp -n 12288 -i 0:409600 copy large; rm large copy direct')
  })

  it('has links, symbolic links and special files', async () => {
    await run('mkdir kinds; echo text > kinds/file; ln kinds/file kinds/hard; ln -s file kinds/soft; mkfifo kinds/pipe')
    expect(await run('cd kinds; cat soft; readlink soft; stat -c "%h" hard; stat -c %F pipe')).toBe(
      'text\nfile\n2\nfifo',
    )
  })

  it('keeps modes, owners and times to the nanosecond; chown takes set-uid away', async () => {
    await run('echo x > modes; chmod 4750 modes')
    expect(await run('stat -c %a modes; chown 1000:1001 modes; stat -c "%a %u %g" modes')).toBe('4750\n750 1000 1001')
    await run("touch -d '2001-02-03 04:05:06.123456789 UTC' modes")
    expect(await run('TZ=UTC stat -c %y modes')).toBe('2001-02-03 04:05:06.123456789 +0000')
  })

  it('lists a directory of a thousand names, with and without attributes, and removes it', async () => {
    await run('mkdir many; cd many; for n in $(seq 1000); do : > file$n; done')
    expect(await run('ls many | wc -l; ls -l many | wc -l; find many -type f | wc -l')).toBe('1000\n1001\n1000')
    await run('rm -r many; test ! -e many')
  })

  it('says what ext4 would', async () => {
    const wrong = await mounted.shell(
      'cat absent; mkdir full; touch full/x; rmdir full; mkdir full; rm full; touch $(printf %0300d 1)',
      'first',
    )
    expect(wrong.stderr.match(/(No such|not empty|File exists|Is a directory|too long)/gi)).toEqual([
      'No such',
      'not empty',
      'File exists',
      'Is a directory',
      'too long',
    ])
  })

  it('keeps an open file that is unlinked (C27)', async () => {
    expect(await run('echo open > gone; exec 3< gone; rm gone; cat <&3; test ! -e gone')).toBe('open')
  })

  it('locks between processes', async () => {
    const script = 'echo > lock; flock lock -c "flock -n lock -c true || echo held"; flock -n lock -c "echo free"'
    expect(await run(script)).toBe('held\nfree')
  })
})
