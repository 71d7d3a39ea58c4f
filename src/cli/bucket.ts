/** `tidegate bucket`: attaches external buckets to a running gateway, and looks after them. */
import { attachBucket } from './bucket-attach.ts'
import { listBucketConflicts, resolveConflict } from './bucket-conflicts.ts'
import { detachBucket } from './bucket-detach.ts'
import { importBucket } from './bucket-import.ts'
import { bucketStatus } from './bucket-status.ts'
import { UsageError, type CliContext, type Command, type ExitCode } from './command.ts'
import { CONNECTION_HELP } from './connection.ts'

type Action = (argv: readonly string[], context: CliContext) => Promise<ExitCode>

const ACTIONS: Readonly<Record<string, Action>> = {
  attach: attachBucket,
  change: (argv, context) => attachBucket(argv, context, { change: true }),
  conflicts: listBucketConflicts,
  detach: detachBucket,
  import: importBucket,
  resolve: resolveConflict,
  status: bucketStatus,
}

const NAMES = Object.keys(ACTIONS).sort().join(', ')

export const bucketCommand: Command = {
  name: 'bucket',
  usage:
    'attach NAME URL | change NAME | detach NAME | import NAME | status [NAME] | conflicts NAME | resolve NAME KEY',
  summary: 'attach buckets that exist already in another store, and look after them',
  details: () =>
    `attach NAME URL   shows an external bucket, or what lies below a prefix of it, as bucket NAME: its objects at once, lists as they are
                  asked for; what is written here goes there. URL is 's3://BUCKET/PREFIX?endpoint=URL&region=R', also with
                  profile=P and style=path or host. Credentials are the gateway's, by the ways that AWS tools know
  --conflicts P         what becomes of a key that was changed here and there: fail (it waits for "bucket resolve"), keep-both
                        (theirs takes the key, ours KEY.conflict-...) or last-writer-wins (ours) (default fail)
  --ttl TIME            for how long what was seen of a key counts (default 10s)
  --listing-ttl TIME    for how long a listing counts (default 1m)
  --compare-interval TIME   how old it gets before it is listed again in the background; 0s: that is not done (default 1h)
  --ack LEVEL           how safe a write is before it is acknowledged: memory, journal or persisted (the external bucket has it)
change NAME       changes some of that, but for --ack
detach NAME       takes no more writes, waits until all changes are in the external bucket, and forgets NAME here. The external bucket
                  stays as it is. If something is left it says what, opens NAME again, and ends with code 1
  --force               detaches all the same: what is left is lost, and listed
  --timeout TIME        how long to wait (default 5m)
import NAME       lists all of it now, in the gateway, and shows how far it is; what was listed before is skipped. Ctrl-C ends only the
                  showing: the import goes on, and "bucket import NAME" shows it again
  --again               also what was listed before
  --detach              starts it and does not wait
  --stop                stops it; what it has listed stays
status [NAME]     what waits to go there, what fails and why, conflicts, imports
conflicts NAME    lists keys that were changed on both sides and wait for a decision
resolve NAME KEY --keep ours|theirs|both
                  decides one; both: theirs takes the key, ours another one, which is printed

${CONNECTION_HELP}`,
  async run([name = '', ...argv], context) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined) throw new UsageError(name === '' ? `bucket wants ${NAMES}` : `bucket knows no ${name}`)
    return await action(argv, context)
  },
}
