/** What `npm run rdma-test` needs beside the project and what it unpacks (kernel.ts). For `npm test` test/run.ts sees to it. */
import { existsSync } from 'node:fs'
import { runCommand } from '../../support/run-command.ts'

/** How to see that it is there, by the Debian package that brings it. Not rdma-core, which would upgrade systemd. */
const NEEDED: Readonly<Record<string, readonly [string, ...string[]]>> = {
  'qemu-system-x86': ['qemu-system-x86_64', '--version'],
  // With the addon's headers, and with Soft-RoCE's part of libibverbs.
  'libfabric-dev': ['test', '-e', '/usr/include/rdma/fabric.h'],
  iproute2: ['rdma', '-V'],
  'build-essential': ['cc', '--version'],
}
const LOOK_MS_MAX = 30_000
const INSTALL_MS_MAX = 300_000

/** @throws Error that says what to install, where that cannot be done here */
export async function installPrograms(): Promise<void> {
  const packages = await missing()
  if (packages.length === 0) return
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    throw new Error(`on Debian: apt-get install ${packages.join(' ')}`)
  }
  console.log(`installing ${packages.join(' ')}`)
  const quietly = { show: false, timeoutMs: INSTALL_MS_MAX, env: { DEBIAN_FRONTEND: 'noninteractive' } }
  await runCommand(['apt-get', 'update', '-q'], quietly)
  const install = ['apt-get', 'install', '-q', '-y', '--no-install-recommends'] as const
  const done = await runCommand([...install, ...packages], quietly)
  if ((await missing()).length > 0) throw new Error(`${packages.join(' ')} cannot be installed: ${done.output}`)
}

async function missing(): Promise<string[]> {
  const found = await Promise.all(
    Object.entries(NEEDED).map(async ([name, probe]) => ({
      name,
      isThere: (await runCommand(probe, { show: false, timeoutMs: LOOK_MS_MAX })).code === 0,
    })),
  )
  return found.filter(({ isThere }) => !isThere).map(({ name }) => name)
}
