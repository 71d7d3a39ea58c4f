/**
 * Query parameters of the operations on single values. One table is both what is parsed and what the description of the API says,
 * since these operations do not run Fastify's validation: they answer on the raw response.
 */
import { TidegateError } from '../../common/errors.ts'
import { decodeComponent, queryPairs } from '../http/request-key.ts'
import type { AuthenticationForm } from '../http/types.ts'
import { TTL_SECONDS_MAX, TTL_SECONDS_MIN } from './operation-json.ts'
import { badParameter } from './parameters.ts'

interface NumberParameter {
  readonly type: 'number' | 'integer'
  readonly minimum: number
  readonly maximum: number
  readonly description: string
}

export const VALUE_PARAMETERS = {
  ttl: {
    type: 'number',
    minimum: TTL_SECONDS_MIN,
    maximum: TTL_SECONDS_MAX,
    description: 'Seconds until the key is gone; from then on it is never served.',
  },
  pin: {
    type: 'integer',
    minimum: 0,
    maximum: 86_400,
    description: 'Seconds for which the value is held in memory; 0 lets it go.',
  },
} as const satisfies Readonly<Record<string, NumberParameter>>

export type ValueParameter = keyof typeof VALUE_PARAMETERS
export type ValueParameters = { readonly [Name in ValueParameter]?: number }

/** JSON schema of the query, as the description of the API shows it. */
export function parameterSchema(names: readonly ValueParameter[]): object {
  const properties = Object.fromEntries(names.map((name) => [name, VALUE_PARAMETERS[name]]))
  return { type: 'object', additionalProperties: false, properties }
}

const NONE: ValueParameters = {}
const NUMBER_FORM = { number: /^\d{1,9}(?:\.\d{1,9})?$/, integer: /^\d{1,9}$/ }

/** Parameters that carry a signature, by the form that they make of it; only there are they known (lesson 5.1.5). */
export const SIGNATURE_PARAMETERS: Partial<Readonly<Record<AuthenticationForm, ReadonlySet<string>>>> = {
  presigned: new Set([
    'X-Amz-Algorithm',
    'X-Amz-Content-Sha256',
    'X-Amz-Credential',
    'X-Amz-Date',
    'X-Amz-Expires',
    'X-Amz-Security-Token',
    'X-Amz-Signature',
    'X-Amz-SignedHeaders',
  ]),
  'presigned-v2': new Set(['AWSAccessKeyId', 'Expires', 'Signature']),
}

/**
 * @param query as sent, without the question mark
 * @throws InvalidArgument for one that is unknown, given twice, or not a number that is allowed
 */
export function parseParameters(
  query: string,
  { names, form }: { names: readonly ValueParameter[]; form: AuthenticationForm },
): ValueParameters {
  if (query === '') return NONE
  const values: { [Name in ValueParameter]?: number } = {}
  for (const [rawName, rawValue] of queryPairs(query)) {
    const given = decodeComponent(rawName)
    const value = decodeComponent(rawValue)
    if (given === undefined || value === undefined) {
      throw new TidegateError(
        'InvalidArgument',
        `the parameter ${JSON.stringify(rawName)} is not percent-encoded UTF-8`,
      )
    }
    if (SIGNATURE_PARAMETERS[form]?.has(given) === true) continue
    const name = names.find((candidate) => candidate === given)
    if (name === undefined) throw badParameter(given, value, 'is unknown here')
    if (values[name] !== undefined) throw badParameter(name, value, 'is given more than once')
    values[name] = numberOf(name, value)
  }
  return values
}

function numberOf(name: ValueParameter, text: string): number {
  const { type, minimum, maximum } = VALUE_PARAMETERS[name]
  const number = NUMBER_FORM[type].test(text) ? Number(text) : Number.NaN
  if (number >= minimum && number <= maximum) return number
  throw badParameter(name, text, `is no ${type} from ${minimum} to ${maximum}`)
}
