/**
 * The row that says that metadata in etcd are on their way, below which prefix nobody serves meanwhile.
 *
 *   <prefix> 00 moving     format (1 byte), state (1 byte), name of the move (16 bytes), then, while they come from a data directory, what that was like
 *                          (32 bytes, embedded-rows.ts) and the key up to which its rows are here
 *
 *                   first page            all rows read again, and equal
 *     (no prefix) ------------> arriving ----------------------------------> arrived --the data directory is switched--> (no row)
 *                                |   ^                                          |
 *           the source has changed   | nothing is left        the source was served again, and has changed
 *                                v   |                                          |
 *                               clearing <--------------------------------------+
 *
 *     (no row) --a node moves back--> leaving --its data directory has all, and nothing has changed since--> left
 *                                        |
 *                                        +--the node serves again--> (no row)
 *
 * `arriving`, `clearing`, `arrived`: nobody but the move may touch what is below the prefix. `leaving`: no node may join, and only the one that moves may start, which
 * gives the move up. `left`: the rows are those of the moment of the move, and are nobody's.
 */
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import { byteString, onlyKey, type EtcdLayout } from '../raft/layout.ts'
import type { Compare, Etcd, EtcdOperation } from '../raft/ports.ts'

const FORMAT = 1
const STATES = ['clearing', 'arriving', 'arrived', 'leaving', 'left'] as const
const NAME_AT = 2
const SOURCE_AT = 18
const CURSOR_AT = 50

export type MovingState = (typeof STATES)[number]

export interface Moving {
  readonly state: MovingState
  /** 16 bytes. */
  readonly name: ByteString
  /** 32 bytes; of zeros where they come from etcd. */
  readonly source: ByteString
  /** Of the source's rows, exclusive. */
  readonly cursor: ByteString
}

export interface FoundMoving extends Moving {
  readonly modRevision: Revision
}

export const NO_SOURCE: ByteString = '\0'.repeat(CURSOR_AT - SOURCE_AT) as ByteString

export function encodeMoving({ state, name, source, cursor }: Moving): Uint8Array {
  return Buffer.from(String.fromCharCode(FORMAT, STATES.indexOf(state)) + name + source + cursor, 'latin1')
}

/** @throws Unavailable for a format that this program does not know */
export function decodeMoving(value: Uint8Array): Moving {
  const bytes = byteString(value)
  const state = STATES[value[1] ?? STATES.length]
  if (value[0] !== FORMAT || state === undefined || bytes.length < CURSOR_AT)
    throw new TidegateError('Unavailable', 'metadata in etcd are being moved by a program that is newer than this one')
  return {
    state,
    name: bytes.slice(NAME_AT, SOURCE_AT) as ByteString,
    source: bytes.slice(SOURCE_AT, CURSOR_AT) as ByteString,
    cursor: bytes.slice(CURSOR_AT) as ByteString,
  }
}

/** @throws EtcdFailure */
export async function readMoving(etcd: Etcd, layout: EtcdLayout): Promise<FoundMoving | undefined> {
  const { rows } = await etcd.range({ range: onlyKey(layout.moving), limit: 1 })
  return rows[0] && { ...decodeMoving(rows[0].value), modRevision: rows[0].modRevision }
}

export function putMoving(layout: EtcdLayout, moving: Moving): EtcdOperation {
  return { kind: 'put', key: layout.moving, value: encodeMoving(moving) }
}

export function movingIs(layout: EtcdLayout, found: { readonly modRevision: Revision } | undefined): Compare {
  return { kind: 'unchanged', key: layout.moving, modRevision: found?.modRevision ?? 0 }
}

/** Why nobody may serve what is there. */
export function whyNotServed(prefix: string, state: MovingState): string {
  switch (state) {
    case 'clearing':
    case 'arriving':
      return (
        `the metadata below ${prefix} are not all there yet: run "tidegate meta migrate" again where it was begun, and it goes on; ` +
        'until then the data directory that they come from can be served as before, without --meta'
      )
    case 'arrived':
      return `the metadata below ${prefix} are all there, and the data directory that they come from still has to be told: run "tidegate meta migrate" there again`
    case 'leaving':
      return (
        `the metadata below ${prefix} are being moved into the data directory of their node: run "tidegate meta migrate" there again to finish that, ` +
        'or start that node, which gives it up'
      )
    case 'left':
      return (
        `the metadata below ${prefix} were moved into the data directory of their node; what is here is what they were then, and may be deleted. ` +
        'If that node still has a node.json, run "tidegate meta migrate" there again'
      )
  }
}
