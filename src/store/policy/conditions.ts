import { BlockList, isIP } from 'node:net'
import { policyError } from './document.ts'
import { compilePattern, expandVariables, parsePattern } from './pattern.ts'
import { CONDITION_KEYS } from '../access.ts'
import type { AccessContext } from '../access.ts'
import type { CheckedCondition } from './document.ts'
import type { PolicyVariables } from './pattern.ts'

/**
 * Condition blocks of policies (IAM User Guide, "IAM JSON policy elements: Condition operators").
 *
 * A key that the request does not have fails a positive operator and passes a negated one; with `IfExists` it passes
 * either. Several values are alternatives: a positive operator wants one of them to hold, a negated one none. The set
 * operators (ForAnyValue, ForAllValues) are refused, since no key here has several values.
 */
export type CompiledCondition = (context: AccessContext) => boolean

interface Operator {
  readonly negated: boolean
  /** A matcher of one request value against one value of the document. */
  readonly compile: (value: string, compiling: Compiling) => (actual: string) => boolean
}

interface Compiling {
  readonly variables: PolicyVariables
  readonly fail: (what: string) => Error
}

const equals: Operator['compile'] = (value, { variables, fail }) => {
  const expected = expandVariables(value, variables, fail)
  return (actual) => actual === expected
}
const equalsIgnoringCase: Operator['compile'] = (value, { variables, fail }) => {
  const expected = expandVariables(value, variables, fail).toLowerCase()
  return (actual) => actual.toLowerCase() === expected
}
const like: Operator['compile'] = (value, { variables, fail }) => compilePattern(parsePattern(value, variables, fail))

type Comparison = (actual: number, expected: number) => boolean
type NumberReader = (text: string) => number

function comparing(read: NumberReader, what: string, compare: Comparison): Operator['compile'] {
  return (value, { fail }) => {
    const expected = read(value)
    if (Number.isNaN(expected)) throw fail(`${JSON.stringify(value)} is no ${what}`)
    return (actual) => compare(read(actual), expected)
  }
}

const readNumber: NumberReader = (text) => (/^-?\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN)
/** ISO 8601, or seconds since 1970. */
const readDate: NumberReader = (text) => {
  if (/^\d+$/.test(text) && text.length > 4) return Number(text) * 1000
  return /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/.test(text)
    ? Date.parse(text)
    : Number.NaN
}

const bool: Operator['compile'] = (value, { fail }) => {
  const expected = value.toLowerCase()
  if (expected !== 'true' && expected !== 'false') throw fail(`${JSON.stringify(value)} is neither true nor false`)
  return (actual) => actual.toLowerCase() === expected
}

const address: Operator['compile'] = (value, { fail }) => {
  const [base = '', prefix, ...rest] = value.split('/')
  const version = isIP(base)
  const bitsMax = version === 4 ? 32 : 128
  const bits = prefix === undefined ? bitsMax : /^\d{1,3}$/.test(prefix) ? Number(prefix) : Number.NaN
  if (version === 0 || rest.length > 0 || Number.isNaN(bits) || bits > bitsMax) {
    throw fail(`${JSON.stringify(value)} is no IP address or CIDR range`)
  }
  const range = new BlockList()
  range.addSubnet(base, bits, version === 4 ? 'ipv4' : 'ipv6')
  return (actual) => {
    const actualVersion = isIP(actual)
    return actualVersion !== 0 && range.check(actual, actualVersion === 4 ? 'ipv4' : 'ipv6')
  }
}

function comparisons(prefix: string, read: NumberReader, what: string): Readonly<Record<string, Operator>> {
  const equal = comparing(read, what, (actual, expected) => actual === expected)
  return {
    [`${prefix}Equals`]: { negated: false, compile: equal },
    [`${prefix}NotEquals`]: { negated: true, compile: equal },
    [`${prefix}LessThan`]: { negated: false, compile: comparing(read, what, (actual, expected) => actual < expected) },
    [`${prefix}LessThanEquals`]: {
      negated: false,
      compile: comparing(read, what, (actual, expected) => actual <= expected),
    },
    [`${prefix}GreaterThan`]: {
      negated: false,
      compile: comparing(read, what, (actual, expected) => actual > expected),
    },
    [`${prefix}GreaterThanEquals`]: {
      negated: false,
      compile: comparing(read, what, (actual, expected) => actual >= expected),
    },
  }
}

const OPERATORS: Readonly<Record<string, Operator>> = {
  StringEquals: { negated: false, compile: equals },
  StringNotEquals: { negated: true, compile: equals },
  StringEqualsIgnoreCase: { negated: false, compile: equalsIgnoringCase },
  StringNotEqualsIgnoreCase: { negated: true, compile: equalsIgnoringCase },
  StringLike: { negated: false, compile: like },
  StringNotLike: { negated: true, compile: like },
  ...comparisons('Numeric', readNumber, 'number'),
  ...comparisons('Date', readDate, 'date'),
  Bool: { negated: false, compile: bool },
  IpAddress: { negated: false, compile: address },
  NotIpAddress: { negated: true, compile: address },
}

const IF_EXISTS = 'IfExists'

/** @throws InvalidArgument naming an operator, key or value that is not known */
export function compileCondition(condition: CheckedCondition, variables: PolicyVariables): CompiledCondition {
  const { where, key, values } = condition
  const fail = (what: string): Error => policyError(where, what)
  if (!(CONDITION_KEYS as readonly string[]).includes(key)) throw fail('unknown condition key')
  if (condition.operator === 'Null') return compileNull(key, values, fail)
  const ifExists = condition.operator.endsWith(IF_EXISTS)
  const name = ifExists ? condition.operator.slice(0, -IF_EXISTS.length) : condition.operator
  const operator = Object.hasOwn(OPERATORS, name) ? OPERATORS[name] : undefined
  if (operator === undefined) throw fail('unknown condition operator')
  const { negated } = operator
  const matchers = values.map((value) => operator.compile(value, { variables, fail }))
  const whenAbsent = negated || ifExists
  return (context) => {
    const actual = context[key]
    if (actual === undefined) return whenAbsent
    return matchers.some((matches) => matches(actual)) !== negated
  }
}

function compileNull(key: string, values: readonly string[], fail: (what: string) => Error): CompiledCondition {
  const [value, ...rest] = values
  if (rest.length > 0 || (value !== 'true' && value !== 'false')) throw fail('Null takes true or false')
  const wantsAbsent = value === 'true'
  return (context) => (context[key] === undefined) === wantsAbsent
}
