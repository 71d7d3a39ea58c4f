/** A process with a client of etcd that is stopped while it waits for a member: ends by itself when nothing of the client is left. */
import { systemClock } from '../../../../../src/common/clock.ts'
import { createEtcdClient } from '../../../../../src/meta/raft/client.ts'

const client = createEtcdClient({ endpoints: [process.argv[2] ?? ''], clock: systemClock, callTimeoutMs: 60_000 })
await client.start()
const granted = client.grantLease(10).then(
  () => 'answered',
  () => 'failed',
)
await systemClock.sleep(500)
await client.stop()
process.stdout.write(`${await granted}\n`)
