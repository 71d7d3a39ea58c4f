/** Calls at the edges of what they allow: the mount answers what ext4 does, but for what stands here. */
// needs: python3
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { shell, startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'

const SCRIPT = fileURLToPath(new URL('./errno/edges.py', import.meta.url))

const MAKE_IN_REMOVED = 'make a file in a removed directory'

/** What the mount answers where ext4 answers something else. */
const DIFFERENT: Readonly<Record<string, string>> = {
  // Names are text, since S3 and KV must be able to show them.
  'make a name that is not UTF-8': 'EILSEQ',
  'mkdir of a name that is not UTF-8': 'EILSEQ',
  'rename to a name that is not UTF-8': 'EILSEQ',
  // A directory that is gone has no attributes any more, which listing by handle asks for first.
  'list a removed directory': 'ESTALE',
  // The kernel asks no FUSE server how long its files may be; ext4 refuses beyond 16 TiB. Nothing can be written there.
  'seek to 2^63-1': '9223372036854775807',
}

let mounted: MountedGateway
let local: string

beforeAll(async () => {
  if (unmetNeeds() !== undefined) return
  local = await mkdtemp(join(tmpdir(), 'tidegate-errno-'))
  mounted = await startMounted()
})

afterAll(async () => {
  if (unmetNeeds() !== undefined) return
  await mounted.stop()
  // Node removes by path, and some of these are too long for that.
  await shell(`rm -rf ${local}`)
})

async function answers(directory: string): Promise<Map<string, string>> {
  const run = await shell(`mkdir -p ${directory} && chmod 755 ${directory} && cd ${directory} && python3 ${SCRIPT}`)
  expect(run.stderr).toBe('')
  const lines = run.stdout.trimEnd().split('\n')
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]))
}

// The script gives up root for some calls, so it needs to have it.
it.skipIf(unmetNeeds() !== undefined || process.getuid?.() !== 0)('answers as ext4 does', async (context) => {
  if ((await shell(`stat -f -c %T ${local}`)).stdout !== 'ext2/ext3\n') context.skip('the local disk is not ext4')
  const here = await answers(local)
  const there = await answers(join(mounted.mountPoint, 'edges', 'd'))
  expect(here.size).toBeGreaterThan(150)
  expect([...there.keys()]).toEqual([...here.keys()])
  const differing = [...there].filter(([call, answer]) => answer !== here.get(call))
  // ESTALE if the kernel asks for the directory's attributes first (docs/mount.md), which depends on how long it has kept them.
  const expected = differing.some(([call, answer]) => call === MAKE_IN_REMOVED && answer === 'ESTALE')
    ? { ...DIFFERENT, [MAKE_IN_REMOVED]: 'ESTALE' }
    : DIFFERENT
  expect(Object.fromEntries(differing)).toEqual(expected)
})
