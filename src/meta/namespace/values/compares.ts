/**
 * The compares of a transaction: all must hold. They are looked at within it, so nobody writes between them and what is
 * done because of them (C1).
 *
 * A value that does not lie inline is bytes that metadata cannot see. Such a compare is decided by what the caller has
 * found out about that content and that operand before, since contents never change; else it is undecided. One compare that
 * fails decides for all, so bytes are asked for only when everything else holds.
 */
import { unreachable } from '../../../common/assert.ts'
import type { ExternalBody } from '../../../common/external.ts'
import type { ByteString, ContentId, Revision } from '../../../common/ids.ts'
import type { ObjectBody, ObjectVersion } from '../../../common/model.ts'
import type { Step } from '../context.ts'
import type { ObjectEntry } from '../records-objects.ts'
import { currentOf, versionOf } from './operations.ts'

export type CompareOperator = '=' | '!=' | '<' | '>'

export type ValueCompare =
  | { readonly target: 'exists'; readonly key: string; readonly operand: boolean }
  | {
      readonly target: 'revision'
      readonly key: string
      readonly operator: CompareOperator
      readonly operand: Revision
    }
  | { readonly target: 'etag'; readonly key: string; readonly operator: '=' | '!='; readonly operand: string }
  | { readonly target: 'value'; readonly key: string; readonly operator: '=' | '!='; readonly operand: Uint8Array }

/** What the caller found when it compared a body with an operand. */
export interface KnownBody {
  readonly content: ContentId | ExternalBody
  readonly operand: Uint8Array
  readonly equal: boolean
}

export type Verdict =
  | { readonly kind: 'decided'; readonly hold: boolean }
  /** Of the compare with this index, the body of this version must be looked at. */
  | { readonly kind: 'undecided'; readonly compare: number; readonly version: ObjectVersion }

export interface PreparedCompare {
  readonly compare: ValueCompare
  readonly keyBytes: ByteString
}

export async function evaluate(
  step: Step,
  compares: readonly PreparedCompare[],
  known: readonly KnownBody[],
): Promise<Verdict> {
  let undecided: Verdict | undefined
  for (const [index, { compare, keyBytes }] of compares.entries()) {
    const current = await currentOf(step, keyBytes)
    if (compare.target !== 'value') {
      if (!holds(compare, current)) return { kind: 'decided', hold: false }
      continue
    }
    const equal = await equalsValue(step, { key: compare.key, current, operand: compare.operand }, known)
    if (typeof equal !== 'boolean') undecided ??= { kind: 'undecided', compare: index, version: equal }
    else if (equal !== (compare.operator === '=')) return { kind: 'decided', hold: false }
  }
  return undecided ?? { kind: 'decided', hold: true }
}

/** An absent key has revision 0 and no ETag. */
function holds(compare: Exclude<ValueCompare, { target: 'value' }>, current: ObjectEntry | undefined): boolean {
  switch (compare.target) {
    case 'exists':
      return (current !== undefined) === compare.operand
    case 'revision':
      return REVISION_HOLDS[compare.operator](current?.revision ?? 0, compare.operand)
    case 'etag':
      return (current?.etag === compare.operand) === (compare.operator === '=')
    default:
      return unreachable(compare, 'target of a compare')
  }
}

const REVISION_HOLDS: Readonly<Record<CompareOperator, (left: Revision, right: Revision) => boolean>> = {
  '=': (left, right) => left === right,
  '!=': (left, right) => left !== right,
  '<': (left, right) => left < right,
  '>': (left, right) => left > right,
}

/** The version whose bytes must be looked at, when that cannot be said without. */
async function equalsValue(
  step: Step,
  compared: { key: string; current: ObjectEntry | undefined; operand: Uint8Array },
  known: readonly KnownBody[],
): Promise<boolean | ObjectVersion> {
  const { key, current, operand } = compared
  if (current?.size !== operand.length) return false
  const version = await versionOf(step, key, current)
  if (version.body.kind === 'inline') return Buffer.compare(version.body.bytes, operand) === 0
  const { body } = version
  const found = known.find(({ content, operand: compared }) => {
    return isSame(content, body) && Buffer.compare(compared, operand) === 0
  })
  return found?.equal ?? version
}

function isSame(known: ContentId | ExternalBody, body: Exclude<ObjectBody, { kind: 'inline' }>): boolean {
  if (body.kind === 'content') return known === body.content
  if (typeof known === 'number') return false
  const { key, etag, size } = body.external
  return known.key === key && known.etag === etag && known.size === size
}
