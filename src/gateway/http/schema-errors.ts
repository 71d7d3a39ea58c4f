/** What a JSON schema refuses, as a person reads it: which parameter or member, and what is wrong with it. */
import { TidegateError } from '../../common/errors.ts'
import type { FastifySchemaValidationError } from 'fastify/types/schema.js'

const PARTS: Readonly<Record<string, string>> = {
  querystring: 'parameter',
  params: 'path parameter',
  headers: 'header',
  body: 'member',
}

/** Fastify's `schemaErrorFormatter`. `where` is the part of the request that failed. */
export function schemaError(errors: readonly FastifySchemaValidationError[], where: string): TidegateError {
  const part = PARTS[where] ?? where
  const [error] = errors
  if (error === undefined) return new TidegateError('InvalidArgument', `bad ${part}`)
  const path = memberPath(error.instancePath)
  const { additionalProperty, missingProperty } = error.params as { [name: string]: string | undefined }
  if (additionalProperty !== undefined) return unknown(part, join(path, additionalProperty))
  if (missingProperty !== undefined) return refused(part, join(path, missingProperty), 'is missing')
  if (path === '') return new TidegateError('InvalidArgument', `the ${where} ${problemOf(error)}`)
  const repeated = where === 'querystring' && error.keyword === 'type'
  return refused(part, path, repeated ? 'is given more than once' : problemOf(error))
}

function problemOf({ keyword, params, message = 'is not valid' }: FastifySchemaValidationError): string {
  const { allowedValues, pattern } = params as { allowedValues?: readonly unknown[]; pattern?: string }
  if (keyword === 'enum' && allowedValues !== undefined) return `must be one of ${allowedValues.join(', ')}`
  if (keyword === 'pattern' && pattern !== undefined) return `must have the form ${pattern}`
  return message
}

/** `/keys/3/name` -> `keys[3].name`. */
function memberPath(pointer: string): string {
  let path = ''
  for (const step of pointer.split('/').slice(1)) {
    const name = step.replaceAll('~1', '/').replaceAll('~0', '~')
    path = /^\d+$/.test(name) ? `${path}[${name}]` : join(path, name)
  }
  return path
}

function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`
}

function unknown(part: string, name: string): TidegateError {
  return new TidegateError('InvalidArgument', `unknown ${part} ${JSON.stringify(name)}`, { details: { [part]: name } })
}

function refused(part: string, name: string, why: string): TidegateError {
  const message = `the ${part} ${JSON.stringify(name)} ${why}`
  return new TidegateError('InvalidArgument', message, { details: { [part]: name } })
}
