import { onlyNames, parseArguments } from './arguments.ts'
import { runRestore } from './restore.ts'
import type { Command } from './command.ts'

export const rebuildCommand: Command = {
  name: 'rebuild',
  usage: '--data DIR --remote URL [--holder ID]',
  summary: 'restore, and take from the segments themselves what the names in the remote store lack',
  details: () =>
    `As restore, for a store whose names are damaged, gone, or older than its segments. Each segment says of each body in it which bucket
and key it was meant for when it came, with its attributes and ETag. Bodies that are newer than the names, or all of them where
there are no names, are put there: the newest of a key stays. Parts of uploads become uploads in progress again, to be
completed by whoever knows how; writes to files are put where they went.

What segments cannot tell: deletes, renames, copies, tags, and objects so small that they lay in the metadata. Those are as in the
names, or not there. Nor can they tell whether a write was refused in the end because its condition did not hold: its body may
become the newest.

--data DIR     the directory to make, empty or absent
--remote URL   the remote store, as for serve
--holder ID    begins with the names of that holder of the store ("tidegate restore --list")
--verify       reads every byte that something refers to, and lists what is damaged
--json         for programs
`,
  run(argv, context) {
    const { values, positionals } = parseArguments(argv, {
      data: { type: 'string' },
      remote: { type: 'string' },
      holder: { type: 'string' },
      verify: { type: 'boolean' },
      json: { type: 'boolean' },
    })
    onlyNames(positionals)
    const { holder, verify = false, json = false } = values
    return runRestore({ ...values, backup: undefined, holder, verify, json, footers: true }, context)
  },
}
