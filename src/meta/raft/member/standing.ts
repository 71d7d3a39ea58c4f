/** What this node is and whom it knows: its record, as it is on disk, and the addresses that follow from it. */
import type { ClusterNodeOptions } from './cluster-options.ts'
import { NodeDirectory } from './node-record.ts'
import type { KnownMember, NodeRecord } from './node-record.ts'

type StandingOptions = Pick<
  ClusterNodeOptions,
  'directory' | 'clusterName' | 'clientUrl' | 'join' | 'voters' | 'onChange'
>

export class Standing {
  readonly directory: NodeDirectory
  readonly #options: StandingOptions
  #record: NodeRecord | undefined
  #endpoints: readonly string[] = []
  #rests = false
  #changing: Promise<void> = Promise.resolve()

  constructor(options: StandingOptions) {
    this.#options = options
    this.directory = new NodeDirectory(options.directory)
  }

  /** @throws ClusterRefused */
  load(): NodeRecord | undefined {
    this.#record = this.directory.read()
    this.#refresh()
    return this.#record
  }

  get record(): NodeRecord | undefined {
    return this.#record
  }

  get members(): readonly KnownMember[] {
    return this.#record?.members ?? []
  }

  /** Its member counts, or will when it is back. */
  get isVoter(): boolean {
    return this.#record?.state === 'member' || this.#record?.state === 'founding'
  }

  /** Durable when it resolves, and true from then on. What is not given stays. One change after the other. */
  change(changed: Partial<NodeRecord> & Pick<NodeRecord, 'state'>): Promise<void> {
    return this.#inOrder(() => this.#write(changed))
  }

  /** Of a node that has a record. */
  setMembers(members: readonly KnownMember[]): Promise<void> {
    return this.#inOrder(async () => {
      const record = this.#record
      if (record === undefined || JSON.stringify(members) === JSON.stringify(record.members)) return
      await this.#write({ ...record, members })
    })
  }

  #inOrder(work: () => Promise<void>): Promise<void> {
    const done = this.#changing.then(work)
    this.#changing = done.catch(() => undefined)
    return done
  }

  async #write(changed: Partial<NodeRecord> & Pick<NodeRecord, 'state'>): Promise<void> {
    const { clusterName, voters } = this.#options
    const before = this.#record ?? { cluster: clusterName, voters, memberId: undefined, members: [] }
    const record = { ...before, ...changed }
    await this.directory.write(record)
    this.#record = record
    this.#refresh()
  }

  /** While its member stands still on purpose the others are used, if there are any. */
  setRests(rests: boolean): void {
    this.#rests = rests
    this.#refresh()
  }

  get rests(): boolean {
    return this.#rests
  }

  /** Who serves, the node's own member first; a learner serves nobody. The same array until that changes. */
  get endpoints(): readonly string[] {
    return this.#endpoints
  }

  /** Whom to ask about the cluster: its own member last, since it may be the one that has not heard what has changed. */
  get asked(): readonly string[] {
    const { clientUrl, join } = this.#options
    const known = this.members.flatMap((member) => member.clientUrl ?? [])
    return [...new Set([...known, ...join].filter((url) => url !== clientUrl)), clientUrl]
  }

  #refresh(): void {
    const { clientUrl, join, onChange } = this.#options
    const voters = this.members.filter((member) => !member.isLearner).flatMap((member) => member.clientUrl ?? [])
    const others = (voters.length > 0 ? voters : join).filter((url) => url !== clientUrl)
    const usesOwn = this.isVoter && (!this.#rests || others.length === 0)
    const endpoints = usesOwn ? [clientUrl, ...others] : others
    if (endpoints.join(' ') === this.#endpoints.join(' ')) return
    this.#endpoints = endpoints
    onChange?.()
  }
}
