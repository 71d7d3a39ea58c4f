import { createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { KvError } from '../client/kv-client.ts'
import { parseArguments } from './arguments.ts'
import { keyTarget, KV_OPTIONS, withClient, writingTo } from './kv-target.ts'
import type { CliContext } from './command.ts'

/** The value's bytes and nothing else. */
export async function kvGet(argv: readonly string[], context: CliContext): Promise<void> {
  const { values, positionals } = parseArguments(argv, { ...KV_OPTIONS, output: { type: 'string', short: 'o' } })
  const { bucket, key } = keyTarget(positionals)
  await withClient(bucket, values, context, async (client) => {
    const found = await client.getStream(key)
    if (found === undefined) {
      throw new KvError({ code: 'NoSuchKey', status: 404, detail: `no value ${JSON.stringify(key)} in ${bucket}` })
    }
    if (values.output !== undefined && values.output !== '-') {
      return pipeline(found.body, createWriteStream(values.output))
    }
    await writingTo(context.stdout, async (write) => {
      for await (const chunk of found.body) await write(chunk as Buffer)
    })
  })
}
