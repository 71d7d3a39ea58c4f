/**
 * Two mounts, of two nodes, as the one place of the model test: each operation goes through either of them, at random, as far as close-to-open allows.
 *
 * - What was written through one mount is there for who opens the file through the other after it was closed. So a file that one has open for writing, or mapped,
 *   is neither opened nor asked for its size by the other. A mapping is synced before it ends: nobody waits for what the kernel closes after that.
 * - What names do is seen by the other at once, but for what its kernel has yet to be told. A lock is granted only then (`SharedLocks`), so one is taken and given
 *   up whenever an operation follows on one of the other mount: without a sleep, and nothing may be stale any more.
 */
import { must } from '../../../../src/common/assert.ts'
import { Random } from '../../../model/random.ts'
import type { GatewayProcess } from '../../../support/gateway-process.ts'
import type { SharedGateways } from '../../../support/three-gateways.ts'
import { BUCKET } from '../../../support/three-gateways.ts'
import type { Place } from '../model/compare.ts'
import { Executor } from '../model/executor.ts'
import type { MountModel } from '../model/model.ts'
import type { Operation, Outcome } from '../model/operations.ts'
import type { ModelFile } from '../model/tree.ts'

/** Numbers of gateways. */
const MOUNTS: readonly number[] = [0, 1]
const BARRIER = 'barrier'
/** No operation of the model has this number. */
const BARRIER_HANDLE = -2
const CHANGE_CHANCE = 0.4
/** So that the choice of mounts does not go with that of operations. */
const SEED_OFFSET = 7_919

/** What an operation that names a path does to the content that is there. */
type Use = 'reads' | 'writes' | 'names'

export interface TwoMountsOptions {
  readonly seed: number
  readonly bucket: string
  readonly model: MountModel
}

export class TwoMounts implements Place {
  readonly #gateways: SharedGateways
  readonly #model: MountModel
  readonly #random: Random
  readonly #executors: ReadonlyMap<number, Executor>
  readonly #handles = new Map<number, number>()
  readonly #mappings = new Map<number, number>()
  #preferred = 0
  #pinned: number | undefined
  /** Of the last operation. */
  #last: number | undefined
  #changes = 0

  constructor(gateways: SharedGateways, { seed, bucket, model }: TwoMountsOptions) {
    this.#gateways = gateways
    this.#model = model
    this.#random = new Random(seed + SEED_OFFSET)
    this.#executors = new Map(MOUNTS.map((at) => [at, new Executor(`${gateways.mountPoint(at)}/${bucket}`)]))
  }

  /** Before anything else is done. */
  async start(): Promise<void> {
    const path = `../${BUCKET}/${BARRIER}`
    for (const executor of this.#executors.values())
      await done(executor, { do: 'open', path, flags: ['RDWR', 'CREAT'], handle: BARRIER_HANDLE })
  }

  /** Of any node: each must have what is published. */
  get gateway(): GatewayProcess {
    return this.#gateways.of(this.#random.pick(this.#gateways.running))
  }

  get where(): string {
    return `[${this.#last}] `
  }

  /** How often an operation followed on one of the other mount. */
  get changes(): number {
    return this.#changes
  }

  /** All that follows goes through that mount, where the file allows it. */
  pin(at: number): void {
    this.#pinned = at
  }

  suits(operation: Operation): boolean {
    return this.#allowed(operation).length > 0
  }

  run(operation: Operation): Promise<Outcome> {
    const at = this.#chosen(this.#allowed(operation))
    this.#note(operation, at)
    const isChange = this.#last !== undefined && this.#last !== at
    this.#last = at
    if (isChange) this.#changes++
    return this.#run(operation, must(this.#executors.get(at), 'executor'), isChange)
  }

  async end(): Promise<void> {
    await Promise.all([...this.#executors.values()].map((executor) => executor.end()))
  }

  async #run(operation: Operation, executor: Executor, isChange: boolean): Promise<Outcome> {
    if (isChange) await done(executor, { do: 'lock', handle: BARRIER_HANDLE })
    if (operation.do === 'unmap') await done(executor, { do: 'mapSync', mapping: operation.mapping })
    const outcome = await executor.run(operation)
    if (operation.do !== 'rename' || !('error' in outcome) || outcome.error !== 'ESTALE') return outcome
    // Of a directory in use that the other has moved Linux refuses the next rename, until somebody has looked at it where it is now (d_splice_alias).
    for (const path of [operation.path, operation.to]) await executor.run({ do: 'status', path })
    return await executor.run(operation)
  }

  #chosen(allowed: readonly number[]): number {
    if (this.#random.chance(CHANGE_CHANCE)) this.#preferred = this.#random.pick(MOUNTS)
    const wanted = this.#pinned ?? this.#preferred
    return allowed.includes(wanted) ? wanted : must(allowed[0], 'a mount that may')
  }

  #note(operation: Operation, at: number): void {
    if (operation.do === 'open') this.#handles.set(operation.handle, at)
    else if (operation.do === 'map') this.#mappings.set(operation.mapping, at)
  }

  #allowed(operation: Operation): readonly number[] {
    if ('mapping' in operation && operation.do !== 'map') return [must(this.#mappings.get(operation.mapping), 'mapped')]
    if ('handle' in operation && operation.do !== 'open') {
      const at = must(this.#handles.get(operation.handle), 'opened')
      const isCopied = operation.do !== 'copy' || this.#handles.get(operation.target) === at
      return isCopied ? [at] : []
    }
    const use = useOf(operation)
    if (use === 'names' || !('path' in operation)) return MOUNTS
    const file = this.#fileAt(operation.path, operation.do !== 'status')
    if (file === undefined) return MOUNTS
    const others = this.#usersOf(file).filter(({ writes }) => writes || use === 'writes')
    return MOUNTS.filter((at) => others.every((user) => user.at === at))
  }

  #fileAt(path: string, follow: boolean): ModelFile | undefined {
    try {
      const node = this.#model.tree.find(path, follow)
      return node.kind === 'file' ? node : undefined
    } catch {
      return undefined
    }
  }

  #usersOf(wanted: ModelFile): { readonly at: number; readonly writes: boolean }[] {
    const { handles, mappings } = this.#model
    const opened = [...handles].map(([handle, { file, write }]) => ({
      at: this.#handles.get(handle),
      file,
      writes: write,
    }))
    const mapped = [...mappings].map(([mapping, { file }]) => ({ at: this.#mappings.get(mapping), file, writes: true }))
    return [...opened, ...mapped].flatMap(({ at, file, writes }) =>
      file === wanted && at !== undefined ? [{ at, writes }] : [],
    )
  }
}

function useOf(operation: Operation): Use {
  switch (operation.do) {
    case 'open':
      return operation.flags.includes('RDONLY') && !operation.flags.includes('TRUNC') ? 'reads' : 'writes'
    case 'truncate':
      return 'writes'
    case 'publish':
    case 'status':
      return 'reads'
    default:
      return 'names'
  }
}

/** What the test does for itself must not be refused. */
async function done(executor: Executor, operation: Operation): Promise<void> {
  const outcome = await executor.run(operation)
  if ('error' in outcome) throw new Error(`${operation.do} of the test itself: ${outcome.error}`)
}
