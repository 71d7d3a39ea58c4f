import { didYouMean } from '../config/nearest.ts'
import { UsageError } from './command.ts'
import { CONNECTION_HELP } from './connection.ts'
import { kvDelete } from './kv-delete.ts'
import { kvGet } from './kv-get.ts'
import { kvLs } from './kv-ls.ts'
import { kvPut } from './kv-put.ts'
import { kvWatch } from './kv-watch.ts'
import type { CliContext, Command } from './command.ts'

const ACTIONS: Readonly<Record<string, (argv: readonly string[], context: CliContext) => Promise<void>>> = {
  get: kvGet,
  put: kvPut,
  delete: kvDelete,
  ls: kvLs,
  watch: kvWatch,
}

export const kvCommand: Command = {
  name: 'kv',
  usage: 'get BUCKET/KEY | put BUCKET/KEY [FILE] | delete BUCKET/KEY | ls BUCKET[/PREFIX] | watch BUCKET[/PREFIX]',
  summary: 'read, write, list and watch values of a running gateway',
  details: () =>
    `get BUCKET/KEY         writes the value to standard output, byte by byte as it is
  -o, --output FILE    or into a file
put BUCKET/KEY [FILE]  puts a file, or standard input (also as -)
  --ttl SECONDS        until it is gone by itself; decimals allowed
  --if-match TAG       only if the present value has this ETag or revision (r42); * for any
  --if-none-match '*'  only if there is none
  --type TYPE          its content type
  --meta NAME=VALUE    metadata; may be repeated
  --ack LEVEL          how safe it must be before the command ends: memory, journal, persisted
delete BUCKET/KEY      removes the value, if there is one; takes --if-match and --ack too
ls BUCKET[/PREFIX]     lists keys in the order of their bytes
  --values             with their values
  --limit N            so many at most
  --reverse            from the end to the start
watch BUCKET[/PREFIX]  tells every change until it is interrupted
  --from R             from revision R on

${CONNECTION_HELP}`,
  async run([name = '', ...argv], context) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined) {
      const names = Object.keys(ACTIONS)
      if (name === '') throw new UsageError(`kv wants one of ${names.join(', ')}`)
      throw new UsageError(`kv knows no ${name}${didYouMean(name, names)}`)
    }
    await action(argv, context)
    return 0
  },
}
