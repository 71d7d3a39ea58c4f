import { isTidegateError } from '../common/errors.ts'
import { DataDirectoryUnusable } from '../config/data-directory.ts'
import { onlyNames, parseArguments } from './arguments.ts'
import { UsageError } from './command.ts'
import { remoteAt } from './remote-at.ts'
import { backupsText, endProgress, holdersText, progressLine, reportText } from './restore-text.ts'
import type { CliContext, Command, ExitCode } from './command.ts'
import type { RestoreRequest } from '../restore.ts'

const PROGRESS_EVERY_MS = 200

const OPTIONS = {
  data: { type: 'string' },
  remote: { type: 'string' },
  backup: { type: 'string' },
  holder: { type: 'string' },
  list: { type: 'boolean' },
  verify: { type: 'boolean' },
  json: { type: 'boolean' },
} as const

export const restoreCommand: Command = {
  name: 'restore',
  usage: '--data DIR --remote URL [--backup ID | --holder ID | --list]',
  summary: 'make a data directory from what a remote store holds',
  details: () =>
    `Makes DIR, which must be empty or absent, from the names in the remote store: buckets, objects, versions, uploads, files, tokens.
Bytes stay in the store, and are fetched and verified when they are read. From then on the store belongs to DIR: a gateway that
comes back on the old data directory is refused, and neither publishes nor deletes.

--data DIR     the directory to make
--remote URL   the remote store, as for serve; credentials by the chain of the AWS SDK
--backup ID    that backup, and not the newest state
--holder ID    the newest state of that holder of the store: when the restore that made its successor was a mistake
--list         lists the backups and the holders in the store, and does nothing else
--verify       reads every byte that something refers to, and lists what is damaged
--json         for programs

Interrupted, it is run again with the same arguments. Root credentials are not restored: give them to serve, or it makes new ones.
`,
  async run(argv, context) {
    const { values, positionals } = parseArguments(argv, OPTIONS)
    onlyNames(positionals)
    const { backup, holder, list = false, json = false, verify = false } = values
    if (backup !== undefined && holder !== undefined) throw new UsageError('--backup or --holder, not both')
    if (!list) return runRestore({ ...values, backup, holder, verify, json, footers: false }, context)
    if (backup ?? holder) throw new UsageError('--list lists all: leave out --backup and --holder')
    await listAll(values.remote, json, context)
    return 0
  },
}

async function listAll(remoteFlag: string | undefined, json: boolean, context: CliContext): Promise<void> {
  const remote = await remoteAt(remoteFlag, context.env)
  const { foundHolders, listBackups, listNames } = await import('../persist/names/read-states.ts')
  const { remoteHistory } = await import('../persist/remote-marker.ts')
  try {
    await remote.connect()
    const backups = await listBackups(remote)
    const holders = foundHolders(await listNames(remote), await remoteHistory(remote))
    const shown = backups.map(({ id, manifest, problem }) => ({
      id,
      revision: manifest?.revision ?? null,
      state: manifest ? new Date(manifest.stateMs).toISOString() : null,
      problem: problem ?? null,
    }))
    const nowMs = Date.now()
    const text = json
      ? `${JSON.stringify({ backups: shown, holders }, undefined, 2)}\n`
      : `${backupsText(backups, nowMs)}\n${holdersText(holders, nowMs)}`
    context.stdout.write(text)
  } finally {
    await remote.stop()
  }
}

/** Both `restore` and `rebuild`. 1 when something was lost or is damaged, and all else was restored. */
export async function runRestore(
  given: Pick<RestoreRequest, 'backup' | 'holder' | 'footers' | 'verify'> & {
    readonly data?: string | undefined
    readonly remote?: string | undefined
    readonly json: boolean
  },
  { env, stdout, stderr }: CliContext,
): Promise<ExitCode> {
  const data = given.data ?? env['TIDEGATE_DATA'] ?? ''
  if (data === '') throw new UsageError('--data is missing: the directory to make')
  const remote = await remoteAt(given.remote, env)
  const { restore } = await import('../restore.ts')
  const { backup, holder, footers, verify, json } = given
  try {
    const onProgress = progressLine(stderr, PROGRESS_EVERY_MS)
    const report = await restore({ data, remote, backup, holder, footers, verify, onProgress })
    endProgress(stderr)
    stdout.write(json ? `${JSON.stringify(report, undefined, 2)}\n` : reportText(report, Date.now()))
    return report.lost.length > 0 || (report.damaged?.length ?? 0) > 0 ? 1 : 0
  } catch (error) {
    endProgress(stderr)
    // Nothing to restore from, or not this: it is the arguments that are wrong.
    if (isTidegateError(error, 'InvalidRequest')) throw new DataDirectoryUnusable(error.message, { cause: error })
    throw error
  } finally {
    await remote.stop()
  }
}
