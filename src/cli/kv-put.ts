import { createReadStream, readFileSync, statSync } from 'node:fs'
import { ACK_LEVELS, type AckLevel } from '../common/model.ts'
import { parseArguments } from './arguments.ts'
import { UsageError } from './command.ts'
import { keyTarget, KV_OPTIONS, withClient } from './kv-target.ts'
import type { CliContext } from './command.ts'
import type { PutBody } from '../client/kv-client.ts'

/** Files up to this are read whole, so that a put of one can be sent again. */
const READ_WHOLE_BYTES_MAX = 1024 * 1024

const OPTIONS = {
  ...KV_OPTIONS,
  ttl: { type: 'string' },
  'if-match': { type: 'string' },
  'if-none-match': { type: 'string' },
  type: { type: 'string' },
  meta: { type: 'string', multiple: true },
  ack: { type: 'string' },
  json: { type: 'boolean' },
} as const

export async function kvPut(argv: readonly string[], context: CliContext): Promise<void> {
  const { values, positionals } = parseArguments(argv, OPTIONS)
  const [target = '', file = '-', ...extra] = positionals
  const { bucket, key } = keyTarget(target === '' ? [] : [target, ...extra])
  const options = {
    ttlSeconds: ttlSeconds(values.ttl),
    ifMatch: condition(values['if-match']),
    ifNoneMatch: condition(values['if-none-match']),
    contentType: values.type,
    metadata: metadata(values.meta ?? []),
    ack: ackLevel(values.ack),
  }
  const { body, size } = source(file, context)
  await withClient(bucket, values, context, async (client) => {
    const put = await client.put(key, body, { ...options, size })
    if (values.json === true) context.stdout.write(`${JSON.stringify({ key, ...put })}\n`)
  })
}

/** A revision is written as in the header: `r42`. */
export function condition(text: string | undefined): string | number | undefined {
  const revision = text === undefined ? undefined : /^"?r(?<revision>\d{1,15})"?$/.exec(text)?.groups?.['revision']
  return revision === undefined ? text : Number(revision)
}

function ttlSeconds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^\d+(?:\.\d+)?$/.test(text)) throw new UsageError(`--ttl ${JSON.stringify(text)} is not a number of seconds`)
  return Number(text)
}

function metadata(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const equals = pair.indexOf('=')
      if (equals < 1) throw new UsageError(`--meta ${JSON.stringify(pair)} is not of the form NAME=VALUE`)
      return [pair.slice(0, equals).toLowerCase(), pair.slice(equals + 1)]
    }),
  )
}

export function ackLevel(text: string | undefined): AckLevel | undefined {
  const level = ACK_LEVELS.find((name) => name === text)
  if (text !== undefined && level === undefined) throw new UsageError(`--ack is one of ${ACK_LEVELS.join(', ')}`)
  return level
}

function source(file: string, context: CliContext): { body: PutBody; size?: number | undefined } {
  if (file === '-') return { body: context.stdin ?? process.stdin }
  try {
    const stats = statSync(file)
    if (stats.isDirectory()) throw new UsageError(`${file} is a directory`)
    if (!stats.isFile()) return { body: createReadStream(file) }
    if (stats.size <= READ_WHOLE_BYTES_MAX) return { body: readFileSync(file) }
    return { body: createReadStream(file), size: stats.size }
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError(`cannot read ${file}: ${(error as Error).message}`)
  }
}
