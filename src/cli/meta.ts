/** `tidegate meta`: moves a gateway's metadata between its data directory and etcd. */
import { UsageError, type Command } from './command.ts'
import { migrateMetadata } from './meta-migrate.ts'

export const metaCommand: Command = {
  name: 'meta',
  usage: 'migrate --data DIR --to URL | --from URL [OPTIONS]',
  summary: 'move metadata between a data directory and etcd',
  details: () =>
    `migrate moves the metadata of a gateway that is stopped: objects, versions, uploads, files, tokens and all else that names what lies in its segments,
which stay where they are. Everything is read again on both sides, and compared by count and checksum, before it counts.

--data DIR       the data directory, as for serve
--to URL         into etcd, to where nothing is yet: etcd://HOST:PORT,HOST:PORT/PREFIX, or etcds:// for TLS. Then: serve --meta URL
--from URL       from etcd into the data directory of their one node. Then: serve without --meta
--to cluster     into the etcd that this node runs itself from now on, with --cluster NAME and the other options that "serve" has for that. Without
                 --cluster-join the cluster begins with it. --from cluster is the way back
--json           for programs

--meta-ca, --meta-cert, --meta-key, --meta-user, --meta-password-file and --config are as for serve; so is the environment.

Interrupted, it is run again with the same arguments, and goes on where it was. Until it has ended, what is being moved is as it was, and can be
served from where it is; what is moved half cannot be served.
`,
  async run([action = '', ...argv], context) {
    if (action !== 'migrate')
      throw new UsageError(action === '' ? 'meta wants migrate' : `meta knows no ${JSON.stringify(action)}`)
    return await migrateMetadata(argv, context)
  },
}
