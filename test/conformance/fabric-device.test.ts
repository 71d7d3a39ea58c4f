/**
 * The devices of the fabric, held to the same suite: the double, and the addon on libfabric. TIDEGATE_TEST_FABRIC says by which provider (default tcp), TIDEGATE_TEST_FABRIC_ADDRESS at which address of this machine
 * (default 127.0.0.1).
 */
import { openFabricDevice } from '../../src/rdma/fabric/device.ts'
import type { FabricDevice } from '../../src/rdma/fabric/ports.ts'
import { FakeFabricNetwork } from '../support/fake-fabric.ts'
import { testFabricDevice } from './fabric-device.ts'

testFabricDevice('within the process', {
  async open() {
    const network = new FakeFabricNetwork()
    return [network.device(), network.device()]
  },
})

const provider = process.env['TIDEGATE_TEST_FABRIC'] === 'verbs' ? 'verbs' : 'tcp'
const address = process.env['TIDEGATE_TEST_FABRIC_ADDRESS'] ?? '127.0.0.1'

testFabricDevice(`libfabric by ${provider}`, {
  open: async () => [await open(), await open()],
})

async function open(): Promise<FabricDevice> {
  const { device, reason } = await openFabricDevice({ provider, address })
  if (device === undefined) throw new Error(reason)
  return device
}
