/** The mount in the ways of having it that the other files do not use: by Node's own modules, and by an ordinary user. */
// needs: fusermount3 cc
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { shell, startMounted, type MountedGateway, type MountedOptions } from '../../support/mounted-gateway.ts'
import { REPOSITORY } from '../../support/run-command.ts'

const itMounted = it.skipIf(unmetNeeds() !== undefined)
const DEVICE = '/dev/fuse'
const NOBODY = 65534
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'] as const

const SCRIPT = `set -e
mkdir first; cd first
head -c 3000000 /dev/urandom > large; cp large copy; cmp large copy
echo text > file; ln file hard; ln -s file soft; cat soft; stat -c %h hard
mkdir -p deep/er; mv file deep/er/file; cat deep/er/file
for n in $(seq 300); do echo $n > deep/$n; done; ls deep | wc -l; cat deep/* 2> /dev/null | wc -l
exec 3< hard; rm hard deep/er/file; cat <&3
truncate -s 5 copy; stat -c %s copy; sync copy
dd if=large of=direct bs=1M oflag=direct status=none; cmp large direct
# The mount tells what is visible: what a kill must not take back is synced.
rm -r deep direct; sync .`
const OUTPUT = 'text\n2\ntext\n301\n300\ntext\n5\n'

async function start(options: MountedOptions): Promise<MountedGateway> {
  const mounted = await startMounted([], options)
  onTestFinished(() => mounted.stop())
  return mounted
}

/** The sources as they are, without the addon's: as on a machine where it cannot be built. */
function withoutAddon(): string {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-without-addon-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  for (const name of ['src', 'package.json']) cpSync(join(REPOSITORY, name), join(directory, name), { recursive: true })
  symlinkSync(join(REPOSITORY, 'node_modules'), join(directory, 'node_modules'))
  return join(directory, 'src/main.ts')
}

/** Distributions give the device to everybody; a bare container has it for root alone. */
function openDevice(): void {
  const { mode } = statSync(DEVICE)
  if ((mode & 0o006) === 0o006) return
  chmodSync(DEVICE, 0o666)
  onTestFinished(() => chmodSync(DEVICE, mode & 0o777))
}

itMounted('works by Node alone where there is no addon', async () => {
  const mounted = await start({ program: [process.execPath, withoutAddon()] })
  expect(await mounted.shell(SCRIPT)).toEqual({ code: 0, stderr: '', stdout: OUTPUT })
  expect(readFileSync(mounted.logFile, 'utf8')).toContain('"channel":"node"')
  await mounted.gateway.kill()
  expect((await shell(`ls ${mounted.mountPoint}`)).stderr).toMatch(/not connected/)
  await mounted.restart()
  expect((await mounted.shell('ls', 'first')).stdout).toBe('copy\nlarge\nsoft\n')
  expect(await mounted.gateway.stop()).toBe(0)
})

itMounted('works for an ordinary user by fusermount3, and for nobody else', async () => {
  openDevice()
  const main = join(REPOSITORY, 'src/main.ts')
  const mounted = await start({ program: [...AS_NOBODY, process.execPath, main], uid: NOBODY })
  const asNobody = (script: string): ReturnType<typeof shell> =>
    shell(`${AS_NOBODY.join(' ')} bash <<'END'\ncd ${mounted.mountPoint}\n${script}\nEND`)
  expect(await asNobody(SCRIPT)).toEqual({ code: 0, stderr: '', stdout: OUTPUT })
  expect(readFileSync(mounted.logFile, 'utf8')).toContain('"channel":"addon"')
  expect((await asNobody('cd first; chown 0 large; stat -c %u large')).stdout).toBe(`${NOBODY}\n`)
  expect((await shell(`ls ${mounted.mountPoint}`)).stderr).toMatch(/Permission denied/)
  await mounted.gateway.kill()
  expect((await asNobody('ls')).stderr).toMatch(/not connected/)
  await mounted.restart()
  expect((await asNobody('ls first')).stdout).toBe('copy\nlarge\nsoft\n')
  expect(await mounted.gateway.stop()).toBe(0)
  expect((await shell(`grep -c ${mounted.mountPoint} /proc/self/mountinfo`)).stdout).toBe('0\n')
})
