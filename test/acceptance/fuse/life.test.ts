/** How a mount begins and ends: with the gateway, by hand, and by a crash. */
import { expect, it, onTestFinished } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { shell, startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'

const itMounted = it.skipIf(unmetNeeds() !== undefined)

async function start(): Promise<MountedGateway> {
  const mounted = await startMounted(['--buckets', 'first'])
  onTestFinished(() => mounted.stop())
  return mounted
}

async function isMounted(mountPoint: string): Promise<boolean> {
  return (await shell(`grep -q ' ${mountPoint} ' /proc/self/mountinfo`)).code === 0
}

itMounted('unmounts on SIGTERM and has everything at the next start', async () => {
  const mounted = await start()
  await mounted.shell('echo kept > kept; exec 3> open; echo open >&3', 'first')
  expect(await mounted.gateway.stop()).toBe(0)
  expect(await isMounted(mounted.mountPoint)).toBe(false)
  await mounted.restart()
  expect((await mounted.shell('cat kept open', 'first')).stdout).toBe('kept\nopen\n')
})

itMounted('ends with ENOTCONN when the gateway is killed, and mounts over the dead mount again', async () => {
  const mounted = await start()
  await mounted.shell('echo synced > synced; sync synced', 'first')
  await mounted.gateway.kill()
  const dead = await shell(`ls ${mounted.mountPoint}`)
  expect(dead.stderr).toMatch(/not connected/)
  await mounted.restart()
  expect((await mounted.shell('cat synced', 'first')).stdout).toBe('synced\n')
})

itMounted('is taken away by `tidegate umount`, upon which the gateway goes on', async () => {
  const mounted = await start()
  const main = new URL('../../../src/main.ts', import.meta.url).pathname
  const done = await shell(`${process.execPath} ${main} umount ${mounted.mountPoint}`)
  expect(done).toMatchObject({ code: 0, stdout: `unmounted ${mounted.mountPoint}\n` })
  expect(await isMounted(mounted.mountPoint)).toBe(false)
  expect((await fetch(new URL('/minio/health/ready', mounted.gateway.s3))).status).toBe(200)
  const again = await shell(`${process.execPath} ${main} umount ${mounted.mountPoint}`)
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('no gateway is mounted') as string })
})
