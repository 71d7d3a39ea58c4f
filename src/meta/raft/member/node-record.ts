/**
 * What this node is in its cluster, as it knows from one start to the next: DATA/etcd/node.json, mode 0600, synced before what it says is done.
 *
 *     {"format": 1, "cluster": "NAME", "state": "member", "memberId": "1234", "voters": 3, "members": [{"name", "peerUrl", "clientUrl", "isLearner"}]}
 *
 * `members` are those that were last seen: to be asked when the node starts, and named when nobody answers.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { MemberId } from '../admin-client.ts'
import { ClusterRefused } from './cluster-options.ts'
import { dataDirectoryOf } from './etcd-flags.ts'

const FORMAT = 1
const STATES = ['founding', 'joining', 'member', 'client', 'removed'] as const
type NodeState = (typeof STATES)[number]

export interface KnownMember {
  readonly id: MemberId
  readonly name: string
  readonly peerUrl: string
  /** Undefined until it has been started for the first time. */
  readonly clientUrl: string | undefined
  readonly isLearner: boolean
}

export interface NodeRecord {
  readonly cluster: string
  readonly state: NodeState
  /** Of this node's member. */
  readonly memberId: MemberId | undefined
  /** How many are to vote. */
  readonly voters: number
  readonly members: readonly KnownMember[]
}

/** The node's record and whether etcd's data lies beside it. */
export class NodeDirectory {
  readonly path: string
  readonly #recordPath: string

  constructor(path: string) {
    this.path = path
    this.#recordPath = join(path, 'node.json')
  }

  /** @throws ClusterRefused if it is there and says nothing that can be understood */
  read(): NodeRecord | undefined {
    if (!existsSync(this.#recordPath)) return undefined
    const record = parsed(readFileSync(this.#recordPath, 'utf8'))
    if (record === undefined) throw new ClusterRefused(`${this.#recordPath} cannot be read as the record of a node`)
    return record
  }

  async write(record: NodeRecord): Promise<void> {
    mkdirSync(this.path, { recursive: true, mode: 0o700 })
    const temporary = `${this.#recordPath}.new`
    const file = await open(temporary, 'w', 0o600)
    try {
      await file.writeFile(`${JSON.stringify({ format: FORMAT, ...record }, undefined, 2)}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, this.#recordPath)
    const folder = await open(this.path, 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  }

  /** etcd has begun to keep something here. */
  hasData(): boolean {
    const data = dataDirectoryOf(this.path)
    return existsSync(data) && readdirSync(data).length > 0
  }

  removeData(): void {
    rmSync(dataDirectoryOf(this.path), { recursive: true, force: true })
  }
}

function parsed(text: string): NodeRecord | undefined {
  try {
    const record = JSON.parse(text) as Partial<NodeRecord> & { format?: unknown }
    const { cluster, state, memberId, voters, members } = record
    const isWhole = typeof cluster === 'string' && typeof voters === 'number' && Array.isArray(members)
    if (record.format !== FORMAT || !isWhole || state === undefined || !STATES.includes(state)) return undefined
    return { cluster, state, memberId, voters, members: members as readonly KnownMember[] }
  } catch {
    return undefined
  }
}
