// needs: etcd openssl setpriv
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { createEtcdAdmin } from '../../src/meta/raft/admin-client.ts'
import { CertificateAuthority } from '../support/certificate-authority.ts'
import { ClusterNodes } from '../support/cluster-nodes.ts'

const NODE_PROCESS = join(import.meta.dirname, 'supervising-process.ts')

let scratch: string
let cluster: ClusterNodes

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'tidegate-certificates-'))
  const authority = new CertificateAuthority(scratch)
  const { certificate, key } = authority.sign('node')
  const tls = { authorityPath: authority.certificate, certificatePath: certificate, keyPath: key }
  cluster = await ClusterNodes.create(2, { tls })
  await cluster.init()
})

afterAll(async () => {
  await cluster.remove()
  rmSync(scratch, { recursive: true })
})

it('members and nodes show certificates to each other; who has none is not let in', async () => {
  await cluster.start(0)
  await cluster.start(1)
  const { members } = await cluster.until(1, ({ role }) => role === 'voter')
  expect(members.map(({ peerUrl }) => peerUrl)).toContainEqual(expect.stringMatching(/^https:/))
  const { clientUrl, tls } = cluster.options(0)
  const stranger = createEtcdAdmin({
    endpoints: [clientUrl],
    tls: { authorityPath: tls?.authorityPath },
    clock: systemClock,
    callTimeoutMs: 1_000,
  })
  await expect(stranger.members()).rejects.toMatchObject({ kind: 'unavailable' })
  stranger.close()
}, 60_000)

it('the member dies with its gateway, however that ends', async () => {
  await cluster.stop(1)
  await cluster.stop(0)
  const { directory } = cluster.options(0)
  const options = { ...cluster.options(0), directory: `${directory}-alone`, join: [], voters: 1 }
  const { clock: _clock, logger: _logger, ...plain } = options
  const gateway = spawn(process.execPath, [NODE_PROCESS, JSON.stringify(plain)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(gateway.stdout, 'data')) as [Buffer]
  const pid = String(line).trim()
  expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain(options.directory)
  gateway.kill('SIGKILL')
  await once(gateway, 'exit')
  await expect
    .poll(() => existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')), {
      timeout: 10_000,
    })
    .toBe(false)
}, 60_000)
