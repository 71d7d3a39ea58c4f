/** A gateway's part that keeps a member, to be killed: prints the id of the member's process. */
import { readdirSync, readFileSync } from 'node:fs'
import { systemClock } from '../../src/common/clock.ts'
import { silentLogger } from '../../src/common/logging.ts'
import { startClusterNode } from '../../src/meta/raft/member/cluster-node.ts'
import type { ClusterNodeOptions } from '../../src/meta/raft/member/cluster-options.ts'
import { initCluster } from '../../src/meta/raft/member/prepare-node.ts'

const told = JSON.parse(process.argv[2] ?? '') as Omit<ClusterNodeOptions, 'clock' | 'logger'>
const options = { ...told, clock: systemClock, logger: silentLogger }
await initCluster(options)
await startClusterNode(options)
const children = readdirSync('/proc').filter((name) => {
  try {
    return (
      /^\d+$/.test(name) &&
      readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(options.directory) &&
      Number(name) !== process.pid
    )
  } catch {
    return false
  }
})
process.stdout.write(`${children.join(' ')}\n`)
setInterval(() => undefined, 60_000)
