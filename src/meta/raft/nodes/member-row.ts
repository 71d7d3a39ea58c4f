/**
 * What a node says of itself, as it lies in etcd:
 *
 *   <prefix> 00 member/ node (4)     JSON of a NodeMember without its number, which the key has
 *
 * A row that cannot be read is that of no node: it may be of a later version, or somebody's hand.
 */
import type { NodeMember } from '../../../common/node-view.ts'

const STATES: ReadonlySet<unknown> = new Set(['starting', 'serving', 'leaving'] satisfies NodeMember['state'][])
const VALUE_BYTES_MAX = 64 * 1024
const WEIGHT_MAX = 1_000

export function encodeMember({ number: _number, ...said }: NodeMember): Uint8Array {
  return Buffer.from(JSON.stringify(said))
}

export function decodeMember(number: number, value: Uint8Array): NodeMember | undefined {
  if (value.length > VALUE_BYTES_MAX) return undefined
  try {
    const said: unknown = JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.length).toString())
    if (typeof said !== 'object' || said === null) return undefined
    const { name, incarnation, address, weight, labels, state, version } = said as Partial<
      Record<keyof NodeMember, unknown>
    >
    const texts = [name, incarnation, address, version]
    if (!texts.every((text) => typeof text === 'string') || !STATES.has(state) || !isLabels(labels)) return undefined
    if (typeof weight !== 'number' || !(weight >= 0 && weight <= WEIGHT_MAX)) return undefined
    return Object.freeze({ number, name, incarnation, address, weight, labels, state, version } as NodeMember)
  } catch {
    return undefined
  }
}

function isLabels(labels: unknown): labels is NodeMember['labels'] {
  if (typeof labels !== 'object' || labels === null || Array.isArray(labels)) return false
  return Object.values(labels).every((value) => typeof value === 'string')
}
