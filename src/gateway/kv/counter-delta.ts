import { badMember, type JsonMembers } from './json-members.ts'

const [DELTA_MIN, DELTA_MAX] = [-(2n ** 63n), 2n ** 63n - 1n]

/** What is added to a counter: a number, or a text of digits beyond what JSON's numbers hold exactly. @throws InvalidArgument */
export function deltaOf(members: JsonMembers): bigint {
  const given = members.get('delta') ?? 1
  const whole =
    typeof given === 'number' ? Number.isSafeInteger(given) : typeof given === 'string' && /^-?\d{1,19}$/.test(given)
  const delta = whole ? BigInt(given as number | string) : undefined
  if (delta !== undefined && delta >= DELTA_MIN && delta <= DELTA_MAX) return delta
  throw badMember(members.pathOf('delta'), 'is no whole number of 64 bits (beyond 2^53 as a string)')
}
