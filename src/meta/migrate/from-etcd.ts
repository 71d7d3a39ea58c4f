/**
 * From etcd to the data directory of the one node whose metadata they are. What says how far it has come lies in the file that is being filled (embedded-rows.ts), since
 * that is the target; what lies in etcd is only that nobody may join meanwhile (moving-row.ts). It can be killed anywhere and run again:
 *
 *   fence     the node's session row is rewritten along with the row `moving`: no process of this node can write any more, and no other node begins
 *   survey    all rows in etcd are read once, and refused where they are another node's
 *   copy      pages of rows, each in the commit that moves the cursor on
 *   verify    all rows in the file are read, and must come to the same
 *   leave     the state `left`, in a transaction which compares that nothing in etcd is younger than the fence: so both readings were of the same rows
 *
 * From there the caller switches the data directory (src/migrate.ts). Until then the source can be served as before, which gives the move up.
 */
import { randomFillSync } from 'node:crypto'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { Row } from '../ports.ts'
import { byteString, encodeSession, onlyKey, type EtcdLayout } from '../raft/layout.ts'
import type { Backend } from '../stage/ports.ts'
import { Changes, nothingSince, refused } from './changes.ts'
import { embeddedPages, fill, fillingIsWhole, readFilling, type Filling } from './embedded-rows.ts'
import { etcdPages } from './etcd-rows.ts'
import { isMovedBack, rowOfNodeZero } from './moved-rows.ts'
import { NO_SOURCE, whyNotServed, type FoundMoving, type Moving } from './moving-row.ts'
import { isSameTally, Tally, type TallyText } from './tally.ts'
import type { MoveOptions, MoveReport } from './to-etcd.ts'

/** The name of no move. */
const NOBODY = '\0'.repeat(16) as ByteString

export interface MoveBackOptions extends Omit<MoveOptions, 'backend'> {
  /** Whose metadata they are. */
  readonly node: number
  /** Opens the file that is to be filled: as an earlier run has left it, or an empty one. */
  readonly target: (how: 'as it is' | 'empty') => Promise<Backend>
}

/** Whether that move has taken place already, but for the switch of the data directory. @throws TidegateError */
export async function hasLeft(
  options: Pick<MoveBackOptions, 'etcd' | 'layout' | 'clock' | 'waitMsMax' | 'name'>,
): Promise<boolean> {
  const found = await new Changes(options).look()
  return found?.state === 'left' && found.name === options.name
}

/** Resolves when everything is in the file, verified, and etcd says that it has left. `etcd` has the revisions of the metadata (raft/shifted-etcd.ts). @throws TidegateError */
export async function moveFromEtcd(options: MoveBackOptions): Promise<MoveReport> {
  const move = new MoveFromEtcd(options)
  const fence = await move.begin()
  const source = await move.survey()
  const { backend, filling } = await move.open()
  const { found, whole } = await move.copy(backend, filling, source.rows)
  const target = move.verify(backend, source.rows)
  if (!isSameTally(source, target)) await move.refuseDifferent(backend, { fence, whole, source, target })
  await fillingIsWhole(backend, whole, fence)
  await move.leave(fence)
  return { source, target, found }
}

class MoveFromEtcd {
  readonly #options: MoveBackOptions
  readonly #changes: Changes
  readonly #layout: EtcdLayout

  constructor(options: MoveBackOptions) {
    this.#options = options
    this.#changes = new Changes(options)
    this.#layout = options.layout
  }

  /** Resolves with the revision since which nothing may change. */
  async begin(): Promise<Revision> {
    const { node } = this.#options
    const found = await this.#changes.look()
    if (found !== undefined && found.state !== 'leaving') refused(whyNotServed(this.#layout.prefix, found.state))
    await this.#refuseOthers()
    const incarnation = new Uint8Array(8)
    randomFillSync(incarnation)
    const session = { key: this.#layout.session(node), value: encodeSession(byteString(incarnation), 0) }
    await this.#changes.step(this.#state('leaving'), [{ kind: 'put', ...session }])
    // Who came before the row is here to be seen, and nobody can come after it (raft/node-number.ts).
    await this.#refuseOthers()
    return (this.#changes.found as FoundMoving).modRevision
  }

  async #refuseOthers(): Promise<void> {
    const { node } = this.#options
    const { rows } = await this.#changes.range({ range: this.#layout.nodes, limit: 0 })
    // One without an identity was forgotten (raft/node-number.ts).
    const known = rows.filter(({ value }) => value.length > 0)
    const others = known.map(({ key }) => this.#layout.nodeOf(key)).filter((number) => number !== node)
    if (others.length === 0) return
    if (this.#changes.found?.state === 'leaving') await this.#changes.end()
    refused(
      `the metadata below ${this.#layout.prefix} are those of ${others.length === 1 ? `node ${others[0]}` : `nodes ${others.join(', ')}`} as well, ` +
        `which may have segments that are not here: only metadata of one node can be moved into its data directory`,
    )
  }

  /** @throws InvalidRequest */
  async survey(): Promise<TallyText> {
    const tally = new Tally()
    for await (const { rows } of this.#pages('' as ByteString)) {
      for (const row of rows) tally.add(row)
      this.#options.onProgress({ doing: 'counting', done: tally.rows, total: undefined })
    }
    return tally.result()
  }

  /** What an earlier run has filled goes on only if nothing was committed in etcd since. */
  async open(): Promise<{ backend: Backend; filling: Filling }> {
    const { name, target } = this.#options
    const { rows } = await this.#changes.range({ range: onlyKey(this.#layout.clock), limit: 1 })
    const sourceRevision = rows[0]?.modRevision ?? 0
    const backend = await target('as it is')
    const filling = readFilling(backend)
    if (filling?.name === name && filling.sourceRevision === sourceRevision) return { backend, filling }
    await backend.close()
    const fresh = { name, sourceRevision, cursor: '' as ByteString, isWhole: false }
    return { backend: await target('empty'), filling: fresh }
  }

  async copy(backend: Backend, filling: Filling, total: number): Promise<{ found: number; whole: Filling }> {
    const { onProgress } = this.#options
    let found = 0
    if (filling.cursor !== '') for (const rows of embeddedPages(backend, '' as ByteString)) found += rows.length
    let copied = 0
    let { cursor } = filling
    for await (const { rows, through } of this.#pages(cursor)) {
      cursor = through
      await fill(backend, rows, { ...filling, cursor, isWhole: false })
      onProgress({ doing: 'copying', done: found + (copied += rows.length), total })
    }
    return { found, whole: { ...filling, cursor } }
  }

  verify(backend: Backend, total: number): TallyText {
    const tally = new Tally()
    for (const rows of embeddedPages(backend, '' as ByteString)) {
      for (const row of rows) tally.add(row)
      this.#options.onProgress({ doing: 'verifying', done: tally.rows, total })
    }
    return tally.result()
  }

  /** What is there is not trusted any more: it is filled anew. */
  async refuseDifferent(
    backend: Backend,
    { fence, whole, source, target }: { fence: Revision; whole: Filling; source: TallyText; target: TallyText },
  ): Promise<never> {
    await fill(backend, [], { ...whole, name: NOBODY })
    if (!(await this.#changes.step(this.#state('leaving'), [], [nothingSince(this.#layout, fence)])))
      this.#refuseChanged()
    throw new TidegateError(
      'Unavailable',
      `what lies in the data directory is not what came from etcd: ${target.rows} rows with ${target.bytes} bytes (${target.checksum}) instead of ` +
        `${source.rows} with ${source.bytes} (${source.checksum}). What is in etcd is as it was; run this again, and everything is copied anew`,
    )
  }

  async leave(fence: Revision): Promise<void> {
    if (!(await this.#changes.step(this.#state('left'), [], [nothingSince(this.#layout, fence)]))) this.#refuseChanged()
  }

  #refuseChanged(): never {
    throw new TidegateError(
      'Unavailable',
      `metadata below ${this.#layout.prefix} were changed while they were being moved: run this again when nobody serves them`,
    )
  }

  async *#pages(after: ByteString): AsyncGenerator<{ rows: readonly Row[]; through: ByteString }, void> {
    const { node } = this.#options
    const range = this.#changes.range.bind(this.#changes)
    for await (const { rows, through } of etcdPages({ layout: this.#layout, after, range })) {
      const moved = rows.filter(({ key }) => isMovedBack(key, node)).map((row) => rowOfNodeZero(row, node))
      if (moved.length > 0) yield { rows: moved, through }
    }
  }

  #state(state: Moving['state']): Moving {
    return { state, name: this.#options.name, source: NO_SOURCE, cursor: '' as ByteString }
  }
}
