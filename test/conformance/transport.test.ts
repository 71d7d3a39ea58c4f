/** The transports, held to the same suite: within the process, over TCP, over TLS. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { LoopbackNetwork } from '../../src/rdma/loopback/loopback-transport.ts'
import type { TransportTls } from '../../src/rdma/tcp/secured.ts'
import { CertificateAuthority } from '../support/certificate-authority.ts'
import { TcpNodes } from '../support/tcp-nodes.ts'
import { testTransport, type TransportHarness } from './transport.ts'

testTransport('within the process', {
  async create(onBug) {
    const network = new LoopbackNetwork(systemClock)
    return [network.join(1, onBug), network.join(2, onBug)]
  },
  async stop() {
    // Nothing is left of it.
  },
})

function tcp(tls?: TransportTls): TransportHarness {
  let nodes: TcpNodes
  return {
    async create(onBug) {
      nodes = new TcpNodes()
      return [nodes.make(1, { tls, onBug }), nodes.make(2, { tls, onBug })]
    },
    stop: () => nodes.stop(),
  }
}

const directory = mkdtempSync(join(tmpdir(), 'tidegate-transport-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
const authority = new CertificateAuthority(directory)
const signed = authority.sign('node')

testTransport('over TCP', tcp())
testTransport('over TLS', tcp({ ca: authority.certificate, cert: signed.certificate, key: signed.key }))
