/** The transports, held to the same suite: within the process, over TCP, over TLS, and with bodies by a fabric: a double of it, and libfabric. */
// needs: cc libfabric
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { LoopbackNetwork } from '../../src/rdma/loopback/loopback-transport.ts'
import { openFabricDevice } from '../../src/rdma/fabric/device.ts'
import type { FabricDevice } from '../../src/rdma/fabric/ports.ts'
import type { TransportTls } from '../../src/rdma/tcp/secured.ts'
import { CertificateAuthority } from '../support/certificate-authority.ts'
import { FabricNodes, testFabric } from '../support/fabric-nodes.ts'
import { FakeFabricNetwork } from '../support/fake-fabric.ts'
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

/** Bodies of any size go by the fabric. */
function fabric(open: () => Promise<FabricDevice>): TransportHarness {
  let nodes: FabricNodes
  return {
    async create(onBug) {
      nodes = new FabricNodes()
      const options = { onBug, fabric: { lineBytes: 1 } }
      return [nodes.make(1, await open(), options), nodes.make(2, await open(), options)]
    },
    ready: () => nodes.ready(),
    memory: (node, bytes) => nodes.memory(node, bytes),
    stop: () => nodes.stop(),
  }
}

testTransport('over TCP', tcp())
testTransport('over TLS', tcp({ ca: authority.certificate, cert: signed.certificate, key: signed.key }))

const network = new FakeFabricNetwork()
testTransport(
  'by a double of a fabric',
  fabric(async () => network.device()),
)
testTransport(
  'by libfabric',
  fabric(async () => {
    const { device, reason } = await openFabricDevice(testFabric)
    if (device === undefined) throw new Error(reason)
    return device
  }),
)
