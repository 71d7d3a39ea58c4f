import { parseArguments } from './arguments.ts'
import { KV_OPTIONS, prefixTarget, shownName, wholeNumber, withClient, writingTo } from './kv-target.ts'
import type { CliContext } from './command.ts'
import type { ScanEntry } from '../client/kv-client.ts'

/** Lines are written in pieces of about this size. */
const PIECE_CHARACTERS = 16 * 1024

export async function kvLs(argv: readonly string[], context: CliContext): Promise<void> {
  const { values, positionals } = parseArguments(argv, {
    ...KV_OPTIONS,
    values: { type: 'boolean' },
    limit: { type: 'string' },
    reverse: { type: 'boolean' },
    json: { type: 'boolean' },
  })
  const { bucket, prefix } = prefixTarget(positionals)
  const limit = wholeNumber('--limit', values.limit)
  const line = values.json === true ? jsonLine : values.values === true ? valueLine : plainLine
  await withClient(bucket, values, context, (client) =>
    writingTo(context.stdout, async (write) => {
      let piece = ''
      for await (const entry of client.scan({ prefix, limit, values: values.values, reverse: values.reverse })) {
        piece += line(entry)
        if (piece.length < PIECE_CHARACTERS) continue
        await write(piece)
        piece = ''
      }
      if (piece !== '') await write(piece)
    }),
  )
}

function plainLine({ key, size, modified, revision }: ScanEntry): string {
  return `${modified.toISOString()} ${`r${revision}`.padStart(10)} ${String(size).padStart(12)} ${shownName(key)}\n`
}

/** Text as text, anything else in base64. */
function valueLine({ key, value, size }: ScanEntry): string {
  if (value === undefined) return `${shownName(key)}\t(${size} bytes)\n`
  const text = value.toString()
  const isText = !/[\p{Cc}\u2028\u2029]/u.test(text) && Buffer.from(text).equals(value)
  return `${shownName(key)}\t${isText ? text : `base64:${value.toString('base64')}`}\n`
}

/** As the API says it. */
function jsonLine({ value, ...entry }: ScanEntry): string {
  return `${JSON.stringify(value === undefined ? entry : { ...entry, value: value.toString('base64') })}\n`
}
