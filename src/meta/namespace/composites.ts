/**
 * Building a composite content in bounded steps (C2).
 *
 *   nothing -> building (G row with the builder's name) -> published (K row)
 *                      \-> abandoned: the reclaimer takes it apart like a dropped content
 *
 * The G row is written before the first piece, so whatever becomes of the builder, the reclaimer finds what there is. It
 * leaves those alone that this process is building at the moment (`context.building`); after a restart there are none.
 *
 * A step that is visible may yet be undone, while later ones are not. So the builder waits until the G row is durable before
 * it writes the first piece, and until every piece is durable before it publishes.
 */
import { assert, must } from '../../common/assert.ts'
import type { ContentId } from '../../common/ids.ts'
import type { Transaction } from '../ports.ts'
import type { NamespaceContext } from './context.ts'
import { contentKey, droppedContentKey, piecesKey } from './keys.ts'
import { decodeDropped, encodeContent, encodeDropped, encodePieceRow, type Piece } from './records-contents.ts'

/** So that taking a row apart (a drop is a delete and a put for each piece) fits the smallest transactions (C2). */
export const PIECES_PER_ROW = 32

/** Where the next piece of a composite goes. */
export interface BuildPosition {
  readonly offset: number
  readonly index: number
}

export const BUILD_START: BuildPosition = { offset: 0, index: 0 }

export function beginBuild(tx: Transaction, context: NamespaceContext, content: ContentId, ownsPieces: boolean): void {
  const composite = { kind: 'composite', references: 0, ownsPieces, length: 0 } as const
  tx.put(droppedContentKey(content), encodeDropped({ builder: context.node, content: composite }))
}

/** Writes full rows of pieces, and a short one for what is left; so only the last step of a build may pass a number that does not fill rows. */
export function appendPieces(
  tx: Transaction,
  content: ContentId,
  at: BuildPosition,
  pieces: readonly Piece[],
): BuildPosition {
  let { offset, index } = at
  for (let first = 0; first < pieces.length; first += PIECES_PER_ROW) {
    const row = pieces.slice(first, first + PIECES_PER_ROW)
    tx.put(piecesKey(content, offset, index), encodePieceRow({ firstOffset: offset, pieces: row }))
    for (const piece of row) offset += piece.length
    index += row.length
  }
  return { offset, index }
}

/** Turns what was built into a content with one reference, which owns its pieces. */
export async function publishBuild(tx: Transaction, content: ContentId, length: number): Promise<void> {
  const key = droppedContentKey(content)
  const dropped = decodeDropped(must(await tx.get(key), `composite ${content} under construction`))
  assert(dropped.builder !== undefined, `composite ${content} is under construction`)
  tx.delete(key)
  addComposite(tx, content, length)
}

/** A composite whose pieces are written in the same transaction. */
export function addComposite(tx: Transaction, content: ContentId, length: number): void {
  tx.put(contentKey(content), encodeContent({ kind: 'composite', references: 1, ownsPieces: true, length }))
}
