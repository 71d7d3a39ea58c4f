/** Trees of many files by the programs that people move them with: what comes out of the mount is what a local disk gives. */
// needs: rsync git cc python3
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { amountOf } from '../../support/metadata-switch.ts'
import { shell, startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'
import { REPOSITORY } from '../../support/run-command.ts'
import { isLong } from './long.ts'

const FILES = isLong ? 20_000 : amountOf({ usual: 2000, overEtcd: 400 })
const FILES_A_DIRECTORY = 100
/** Of this repository; all of it is the long form's. */
const BUILT = isLong ? ['src'] : ['src/common', 'src/client']
const STEP_MS_MAX = isLong ? 600_000 : 100_000

/** Sizes from 0 to some pages, a few modes, links of both kinds, times of the past. */
const MAKE_TREE = `
import os, random
random.seed(4)
for number in range(${FILES}):
    directory = f"tree/{number // ${FILES_A_DIRECTORY}:03}"
    os.makedirs(directory, exist_ok=True)
    path = f"{directory}/file {number}.txt"
    with open(path, "wb") as file:
        file.write(random.randbytes(random.choice([0, 1, 700, 4096, 5000, 20000])))
    os.chmod(path, random.choice([0o644, 0o755, 0o600]))
    os.utime(path, ns=(10**18 + number, 10**18 + number * 1001))
    if number % 50 == 0:
        os.symlink(f"file {number}.txt", f"{directory}/soft {number}")
        os.link(path, f"{directory}/hard {number}")
`

/** One line for everything in a tree: kind, mode, target; of files also size, links, time to the nanosecond, and digest. */
const INVENTORY = `inventory() { (cd "$1"; export LC_ALL=C
  find . -printf '%P %y %m %l' \\( -type f -printf ' %s %n %T@' -o -true \\) -printf '\\n' | sort
  find . -type f -print0 | sort -z | xargs -0 sha1sum) }`

describe.skipIf(unmetNeeds() !== undefined)(`a tree of ${FILES} files`, { timeout: 2 * STEP_MS_MAX }, () => {
  let mounted: MountedGateway
  let local: string
  beforeAll(async () => {
    local = await mkdtemp(join(tmpdir(), 'tidegate-trees-'))
    mounted = await startMounted(['--buckets', 'first'])
    expect(await shell(`cd ${local} && python3 -c '${MAKE_TREE}'`)).toMatchObject({ code: 0, stderr: '' })
  })
  afterAll(async () => {
    await mounted?.stop()
    await rm(local, { recursive: true })
  })

  /** Output of a script that must succeed. \`$local\` is a directory of the local disk, the working directory one of the mount. */
  async function run(script: string): Promise<string> {
    const prepared = `set -e -o pipefail; local=${local}; ${INVENTORY}\n${script}`
    const { stdout, stderr, code } = await mounted.shell(prepared, 'first', STEP_MS_MAX)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return stdout.trim()
  }

  async function timed(what: string, script: string): Promise<void> {
    const startedMs = Date.now()
    await run(script)
    console.log(`${what}: ${((Date.now() - startedMs) / 1000).toFixed(1)} s`)
  }

  async function expectSame(found: string, wanted: string): Promise<void> {
    expect(
      await run(`diff <(inventory "${wanted}") <(inventory "${found}") > $local/diff || head -n 20 $local/diff`),
    ).toBe('')
  }

  it('is unpacked by tar, packed again, and compared', async () => {
    await timed(`tar -x of ${FILES} files`, 'tar -C $local --format=posix -c tree | tar -x')
    await expectSame('tree', '$local/tree')
    await timed(`tar -c of ${FILES} files`, 'mkdir $local/back; tar --format=posix -c tree | tar -C $local/back -x')
    await expectSame('$local/back/tree', '$local/tree')
  })

  it('is carried by rsync, with checksums and what has changed since', async () => {
    await timed(`rsync of ${FILES} files`, 'rsync -aH $local/tree/ synced/')
    await expectSame('synced', '$local/tree')
    await run(`cd $local/tree; echo changed > '000/file 7.txt'; rm -r 001; mkdir new; echo new > new/file`)
    await timed('rsync --checksum --delete', 'rsync -aH --checksum --delete $local/tree/ synced/')
    await expectSame('synced', '$local/tree')
    expect(await run('rsync -aHn --checksum --delete --itemize-changes $local/tree/ synced/')).toBe('')
  })

  it('goes away by rm -r', async () => {
    await timed(`rm -r of ${FILES} files`, 'rm -r synced')
    expect(await run('ls')).not.toContain('synced')
  })

  it('is a repository that git can clone, check and use', async () => {
    await timed('git clone', `git clone -q --no-hardlinks file://${REPOSITORY} clone`)
    expect(await run('cd clone; git fsck --no-progress --full; git status --porcelain')).toBe('')
    const commit = 'git -c user.name=a -c user.email=a@example.org commit -qam changed'
    await run(`cd clone; echo changed >> README.md; ${commit}; git gc -q; git checkout -q HEAD~1; git checkout -q -`)
    expect(await run('cd clone; git fsck --no-progress --full; git status --porcelain; tail -n 1 README.md')).toBe(
      'changed',
    )
  })

  it('is a project that builds as it does on a local disk', async () => {
    const build = `cp -r ${REPOSITORY}/{src,package.json,tsconfig.json,tsconfig.build.json} .
      ln -s ${REPOSITORY}/node_modules node_modules
      echo '${JSON.stringify({ extends: './tsconfig.build.json', include: BUILT })}' > tsconfig.part.json
      ${process.execPath} node_modules/typescript/bin/tsc -p tsconfig.part.json --noCheck
      echo 'int main(void) { return 7; }' > seven.c; cc -o seven seven.c; ./seven || echo $?
      find dist -type f -print0 | sort -z | xargs -0 sha1sum; ls`
    const inMount = await run(`mkdir build; cd build; ${build}`)
    expect(inMount).toContain('kv-client.js')
    expect(inMount).toBe(await run(`mkdir $local/build; cd $local/build; ${build}`))
  })
})
