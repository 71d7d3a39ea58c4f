/**
 * What objects under `names/` are called, so that a listing alone tells which state of the namespace they make.
 *
 *   names/<lineage>/<through>-delta-<after>-<random>-<part>of<parts>      part of a delta: rows that changed in (after, through]
 *   names/<lineage>/<begin>-base-<random>-part-<part>                     part of a base, in key order
 *   names/<lineage>/<begin>-base-<random>-whole-<end>-<parts>             written last: the base is complete
 *   names/<lineage>/<through>-records-<from>-<random>                     records of objects published at revisions in [from, through]
 *
 * Revisions are 16 hex digits, so that names sort by them; parts 6 hex digits, from 0 on; the random is 16 hex digits, drawn once for each
 * capture: an upload that is tried again writes the same bytes under the same name, and two captures never share one.
 *
 * A lineage is who wrote it: the holder of the remote store, drawn anew when a namespace is restored (src/remote-claim.ts). Revisions of
 * two lineages must not be compared: a restored namespace goes on from an older revision and gives out again what its dead ancestor had
 * given to something else.
 */
import { assert, unreachable } from '../../common/assert.ts'
import type { Revision } from '../../common/ids.ts'
import type { RemoteObject } from '../remote/ports.ts'

/** 32 lower-case hex digits. */
export type Lineage = string

export type NamesObjectName =
  | {
      readonly kind: 'delta'
      readonly after: Revision
      readonly through: Revision
      readonly random: string
      readonly part: number
      readonly parts: number
    }
  | { readonly kind: 'base-part'; readonly begin: Revision; readonly random: string; readonly part: number }
  | {
      readonly kind: 'base-whole'
      readonly begin: Revision
      readonly end: Revision
      readonly random: string
      readonly parts: number
    }
  | { readonly kind: 'records'; readonly from: Revision; readonly through: Revision; readonly random: string }

/** An object under `names/`, its name taken apart. */
export type NamesObject = NamesObjectName & {
  readonly lineage: Lineage
  readonly name: string
  readonly bytes: number
  readonly modifiedMs: number
}

export const NAMES_PREFIX = 'names/'
export const PARTS_MAX = 0xff_ffff

export function lineagePrefix(lineage: Lineage): string {
  assert(/^[0-9a-f]{32}$/.test(lineage), `lineage ${JSON.stringify(lineage)}`)
  return `${NAMES_PREFIX}${lineage}/`
}

export function namesObjectName(lineage: Lineage, name: NamesObjectName): string {
  return lineagePrefix(lineage) + lastComponent(name)
}

function lastComponent(name: NamesObjectName): string {
  switch (name.kind) {
    case 'delta': {
      const { after, through, random, part, parts } = name
      return `${hex(through)}-delta-${hex(after)}-${random}-${partHex(part)}of${partHex(parts)}`
    }
    case 'base-part':
      return `${hex(name.begin)}-base-${name.random}-part-${partHex(name.part)}`
    case 'base-whole':
      return `${hex(name.begin)}-base-${name.random}-whole-${hex(name.end)}-${partHex(name.parts)}`
    case 'records':
      return `${hex(name.through)}-records-${hex(name.from)}-${name.random}`
    default:
      return unreachable(name, 'kind of names object')
  }
}

function hex(revision: Revision): string {
  return revision.toString(16).padStart(16, '0')
}

function partHex(part: number): string {
  assert(part <= PARTS_MAX, `${part} parts of one names object`)
  return part.toString(16).padStart(6, '0')
}

const NAME = /^names\/([0-9a-f]{32})\/([0-9a-f]{16})-(.*)$/
const DELTA = /^delta-([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{6})of([0-9a-f]{6})$/
const BASE_PART = /^base-([0-9a-f]{16})-part-([0-9a-f]{6})$/
const BASE_WHOLE = /^base-([0-9a-f]{16})-whole-([0-9a-f]{16})-([0-9a-f]{6})$/
const RECORDS = /^records-([0-9a-f]{16})-([0-9a-f]{16})$/

/** Undefined for what Tidegate has not named; that is left alone. */
export function parseNamesObject(object: RemoteObject): NamesObject | undefined {
  const [, lineage, first, rest] = NAME.exec(object.name) ?? []
  if (lineage === undefined || first === undefined || rest === undefined) return undefined
  const { name, bytes, modifiedMs } = object
  const parsed = parseRest(number(first), rest)
  return parsed && { ...parsed, lineage, name, bytes, modifiedMs }
}

function parseRest(first: Revision, rest: string): NamesObjectName | undefined {
  const [, after, deltaRandom, deltaPart, deltaParts] = DELTA.exec(rest) ?? []
  if (deltaRandom !== undefined) {
    const part = { part: number(deltaPart), parts: number(deltaParts) }
    return { kind: 'delta', after: number(after), through: first, random: deltaRandom, ...part }
  }
  const [, partRandom, part] = BASE_PART.exec(rest) ?? []
  if (partRandom !== undefined) return { kind: 'base-part', begin: first, random: partRandom, part: number(part) }
  const [, wholeRandom, end, parts] = BASE_WHOLE.exec(rest) ?? []
  if (wholeRandom !== undefined) {
    return { kind: 'base-whole', begin: first, end: number(end), random: wholeRandom, parts: number(parts) }
  }
  const [, from, random] = RECORDS.exec(rest) ?? []
  if (random !== undefined) return { kind: 'records', from: number(from), through: first, random }
  return undefined
}

function number(digits: string | undefined): number {
  return Number.parseInt(digits ?? '', 16)
}
