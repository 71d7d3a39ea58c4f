/** Random transactions of the nodes under test, and the model that says what they must see. */
import type { Revision } from '../../src/common/ids.ts'
import type { Random } from '../model/random.ts'

type Operation =
  | {
      readonly kind: 'get' | 'delete' | 'put' | 'add' | 'counters' | 'forget' | 'stamp' | 'stamped'
      readonly name: string
    }
  | {
      readonly kind: 'scan'
      readonly from: string
      readonly to: string
      readonly limit: number
      readonly reverse: boolean
    }
  | { readonly kind: 'refuse' | 'many' }

export type Plan = readonly Operation[]

const NAMES = ['a', 'b', 'ba', 'c', 'd']
/** More than fit one transaction of an etcd with the smallest limit. */
export const MANY = [...NAMES, ...Array.from({ length: 40 }, (_, i) => `x${i}`)]
const STAMPED = ['s', 't']
const COUNTERS = ['n', 'm']

export function anyPlan(random: Random): Plan {
  const operations = Array.from({ length: 1 + random.below(5) }, () => anyOperation(random))
  // A transaction need not see its own stamp.
  return operations.toSorted((a, b) => Number(a.kind === 'stamp') - Number(b.kind === 'stamp'))
}

function anyOperation(random: Random): Operation {
  const name = random.pick(NAMES)
  switch (random.below(12)) {
    case 0:
    case 1:
      return { kind: 'get', name }
    case 2:
    case 3:
      return { kind: 'put', name }
    case 4:
      return { kind: 'delete', name }
    case 5:
    case 6: {
      const [from = '', to = ''] = [name, random.pick(NAMES)].toSorted()
      return { kind: 'scan', from, to: `${to}z`, limit: random.below(4), reverse: random.chance(0.5) }
    }
    case 7:
      return { kind: 'add', name: random.pick(COUNTERS) }
    case 8:
      return random.chance(0.2) ? { kind: 'forget', name: 'm' } : { kind: 'counters', name: random.pick(COUNTERS) }
    case 9:
      return { kind: 'stamp', name: random.pick(STAMPED) }
    case 10:
      return { kind: 'stamped', name: random.pick(STAMPED) }
    default:
      if (random.chance(0.3)) return { kind: 'refuse' }
      return random.chance(0.2) ? { kind: 'many' } : { kind: 'get', name }
  }
}

export function writes(plan: Plan): boolean {
  return plan.some(({ kind }) => ['put', 'delete', 'add', 'forget', 'stamp'].includes(kind))
}

export class Model {
  readonly #rows: Map<string, string>
  readonly #stamps: Map<string, Revision>
  readonly #counters: Map<string, number>

  constructor(from?: Model) {
    this.#rows = new Map(from === undefined ? [] : from.#rows)
    this.#stamps = new Map(from === undefined ? [] : from.#stamps)
    this.#counters = new Map(from === undefined ? [] : from.#counters)
  }

  copy(): Model {
    return new Model(this)
  }

  /** What it must see; carries out what it writes. */
  replay({ plan, call }: { plan: Plan; call: number }, revision: Revision): unknown[] {
    const seen: unknown[] = []
    for (const operation of plan) {
      switch (operation.kind) {
        case 'get':
          seen.push(this.#rows.get(operation.name))
          break
        case 'scan':
          seen.push(this.#scan(operation))
          break
        case 'counters':
          seen.push(this.#counters.get(operation.name) ?? 0)
          break
        case 'stamped':
          seen.push(this.#stamps.get(operation.name))
          break
        case 'many':
          seen.push(MANY.map((name) => this.#rows.get(name)))
          break
        case 'put':
          this.#rows.set(operation.name, String(call))
          break
        case 'stamp':
          this.#stamps.set(operation.name, revision)
          break
        case 'delete':
          this.#rows.delete(operation.name)
          break
        case 'forget':
          this.#counters.delete(operation.name)
          break
        case 'add':
          this.#counters.set(operation.name, (this.#counters.get(operation.name) ?? 0) + 1)
          break
        case 'refuse':
          if ((this.#rows.get('a') === undefined) === (call % 2 === 0)) seen.push('should have refused')
          break
      }
    }
    return seen
  }

  #scan({ from, to, limit, reverse }: Operation & { kind: 'scan' }): string[] {
    const names = [...this.#rows.keys()].filter((name) => name >= from && name < to).toSorted()
    if (reverse) names.reverse()
    return names.slice(0, limit).map((name) => `${name}=${this.#rows.get(name)}`)
  }
}
