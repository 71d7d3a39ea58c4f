/**
 * Query parameters: their schemas, which refuse what is unknown or repeated, and readers for their values. All of them arrive
 * as text.
 */
import { TidegateError } from '../../common/errors.ts'

export type Query = Readonly<Record<string, string | undefined>>

/** Routes that take none refuse any. */
export const NO_PARAMETERS = { type: 'object', additionalProperties: false, properties: {} } as const

export const BUCKET_PARAMS = {
  type: 'object',
  properties: { bucket: { type: 'string', description: 'Name of the bucket.' } },
} as const

export interface BucketParams {
  readonly bucket: string
}

export const FLAG = { type: 'string', enum: ['true', 'false'] } as const

export function flag(query: Query, name: string): boolean {
  return query[name] === 'true'
}

/** @throws InvalidArgument */
export function wholeNumber(
  query: Query,
  name: string,
  { min, max, fallback }: { min: number; max: number; fallback: number },
): number {
  const value = query[name]
  if (value === undefined) return fallback
  const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN
  if (number >= min && number <= max) return number
  throw badParameter(name, value, `is no whole number from ${min} to ${max}`)
}

export function badParameter(name: string, value: string, why: string): TidegateError {
  return new TidegateError('InvalidArgument', `the parameter "${name}" ${JSON.stringify(value)} ${why}`, {
    details: { parameter: name },
  })
}
