import { expect, it } from 'vitest'
import { systemClock } from '../../../../../src/common/clock.ts'
import { silentLogger } from '../../../../../src/common/logging.ts'
import { checkClusterOptions } from '../../../../../src/meta/raft/member/cluster-options.ts'
import type { ClusterNodeOptions } from '../../../../../src/meta/raft/member/cluster-options.ts'
import { etcdFlags } from '../../../../../src/meta/raft/member/etcd-flags.ts'

const tls = { authorityPath: 'ca.pem', certificatePath: 'cert.pem', keyPath: 'key.pem' }
const options: ClusterNodeOptions = {
  directory: 'etcd',
  clusterName: 'main',
  nodeName: 'a',
  peerUrl: 'http://127.0.0.1:2380',
  clientUrl: 'http://127.0.0.1:2379',
  join: [],
  voters: 3,
  quotaBytes: 2 ** 33,
  etcd: 'etcd',
  clock: systemClock,
  logger: silentLogger,
}

it.each([
  [{ clusterName: 'a b' }, '--cluster: "a b"'],
  [{ nodeName: '' }, '--cluster-node: ""'],
  [{ voters: 2 }, '--cluster-voters: 2 is not one of 1, 3 and 5'],
  [{ peerUrl: 'somewhere' }, '--cluster-peer: "somewhere" is not of the form'],
  [{ peerUrl: 'http://127.0.0.1' }, '--cluster-peer: "http://127.0.0.1" is not of the form'],
  [{ clientUrl: 'http://127.0.0.1:2379/x' }, '--cluster-client: "http://127.0.0.1:2379/x" is not of the form'],
  [{ clientUrl: 'http://127.0.0.1:2380' }, '127.0.0.1:2380 is one address for both'],
  [{ clientUrl: 'https://127.0.0.1:2379' }, '--cluster-client: https://127.0.0.1:2379 needs --cluster-ca'],
  [{ tls }, '--cluster-peer: http://127.0.0.1:2380 must be https://'],
  [{ peerUrl: 'http://10.0.0.1:2380' }, '--cluster-peer: http://10.0.0.1:2380 can be reached from elsewhere'],
  [
    { clientUrl: 'http://etcd.example:2379' },
    '--cluster-client: http://etcd.example:2379 can be reached from elsewhere',
  ],
  [{ join: ['http://10.0.0.1:2379'] }, '--cluster-join: http://10.0.0.1:2379 can be reached from elsewhere'],
])('refuses %j', (changed, message) => {
  expect(() => checkClusterOptions({ ...options, ...changed })).toThrow(message)
})

it.each([
  {},
  { peerUrl: 'http://localhost:2380', clientUrl: 'http://[::1]:2379' },
  { tls, peerUrl: 'https://a.example:2380', clientUrl: 'https://10.0.0.1:2379', join: ['https://b.example:2379'] },
])('takes %j', (changed) => {
  expect(() => checkClusterOptions({ ...options, ...changed })).not.toThrow()
})

it('lets nobody in without a certificate, neither peers nor clients', () => {
  const secure = { ...options, tls, peerUrl: 'https://a.example:2380', clientUrl: 'https://10.0.0.1:2379' }
  const flags = etcdFlags(secure, { initialCluster: 'a=https://a.example:2380', state: 'new' })
  expect(flags).toEqual(expect.arrayContaining(['--client-cert-auth', '--peer-client-cert-auth']))
  expect(flags).toContain('--peer-trusted-ca-file=ca.pem')
  // etcd listens on addresses only.
  expect(flags).toContain('--listen-peer-urls=https://0.0.0.0:2380')
  expect(flags).toContain('--listen-client-urls=https://10.0.0.1:2379')
  expect(flags).toContain('--initial-advertise-peer-urls=https://a.example:2380')
})
