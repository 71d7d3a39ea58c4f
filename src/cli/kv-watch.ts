import { parseArguments } from './arguments.ts'
import { KV_OPTIONS, prefixTarget, shownName, wholeNumber, withClient, writingTo } from './kv-target.ts'
import type { CliContext } from './command.ts'
import type { WatchEvent } from '../client/kv-client.ts'

/** Until it is interrupted. */
export async function kvWatch(argv: readonly string[], context: CliContext): Promise<void> {
  const { values, positionals } = parseArguments(argv, {
    ...KV_OPTIONS,
    from: { type: 'string' },
    json: { type: 'boolean' },
  })
  const { bucket, prefix } = prefixTarget(positionals)
  const from = wholeNumber('--from', values.from)
  const line = values.json === true ? (event: WatchEvent) => JSON.stringify(event) : plainLine
  await withClient(bucket, values, context, (client) =>
    writingTo(context.stdout, async (write) => {
      for await (const event of client.watch({ prefix, from })) await write(`${line(event)}\n`)
    }),
  )
}

function plainLine(event: WatchEvent): string {
  const start = `r${event.revision} ${event.type}`
  switch (event.type) {
    case 'put':
      return `${start} ${shownName(event.key)} (${event.size} bytes)`
    case 'delete':
      return `${start} ${shownName(event.key)}`
    case 'renamed':
      return `${start} ${shownName(event.from)} to ${shownName(event.to)}`
  }
}
