import { parseArguments } from './arguments.ts'
import { ackLevel, condition } from './kv-put.ts'
import { keyTarget, KV_OPTIONS, withClient } from './kv-target.ts'
import type { CliContext } from './command.ts'

/** A key that is not there is deleted already. */
export async function kvDelete(argv: readonly string[], context: CliContext): Promise<void> {
  const { values, positionals } = parseArguments(argv, {
    ...KV_OPTIONS,
    'if-match': { type: 'string' },
    ack: { type: 'string' },
    json: { type: 'boolean' },
  })
  const { bucket, key } = keyTarget(positionals)
  const options = { ifMatch: condition(values['if-match']), ack: ackLevel(values.ack) }
  await withClient(bucket, values, context, async (client) => {
    const deleted = await client.delete(key, options)
    if (values.json === true) context.stdout.write(`${JSON.stringify({ key, ...deleted })}\n`)
  })
}
