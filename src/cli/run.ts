/**
 * The `tidegate` command: finds the sub-command, runs it, and turns what it throws into one line on stderr and an exit code.
 */
import { ConfigError } from '../config/config-error.ts'
import { DataDirectoryInUse, DataDirectoryUnusable } from '../config/data-directory.ts'
import { ClusterRefused } from '../meta/raft/member/cluster-options.ts'
import { backupCommand } from './backup.ts'
import { bucketCommand } from './bucket.ts'
import { UsageError } from './command.ts'
import { clusterCommand } from './cluster.ts'
import { nodeCommand } from './node.ts'
import { configCommand } from './config.ts'
import { flushCommand } from './flush.ts'
import { commandHelp, findCommand, helpCommand, overview } from './help.ts'
import { kvCommand } from './kv.ts'
import { metaCommand } from './meta.ts'
import { mountCommand } from './mount.ts'
import { rebuildCommand } from './rebuild.ts'
import { restoreCommand } from './restore.ts'
import { serveCommand } from './serve.ts'
import { statusCommand } from './status.ts'
import { tokenCommand } from './token.ts'
import { umountCommand } from './umount.ts'
import { versionCommand } from './version.ts'
import type { CliContext, Command, ExitCode } from './command.ts'

const COMMANDS: readonly Command[] = [
  serveCommand,
  kvCommand,
  tokenCommand,
  mountCommand,
  umountCommand,
  bucketCommand,
  flushCommand,
  statusCommand,
  clusterCommand,
  nodeCommand,
  metaCommand,
  backupCommand,
  restoreCommand,
  rebuildCommand,
  configCommand,
  versionCommand,
  helpCommand(() => COMMANDS),
]

const HELP_FLAGS: ReadonlySet<string> = new Set(['--help', '-h'])

const ALIVE_MS = 60_000

/** Runs one command. Resolves with the exit code; never rejects. */
export async function runCli(context: CliContext): Promise<ExitCode> {
  const [name, ...argv] = context.argv
  // Pauses do not keep the process alive (common/clock.ts): a command that waits between two attempts must not end there.
  const alive = setInterval(() => undefined, ALIVE_MS)
  try {
    if (name === undefined) {
      context.stderr.write(overview(COMMANDS))
      return 2
    }
    if (HELP_FLAGS.has(name)) return await findCommand(COMMANDS, 'help').run(argv, context)
    if (name === '--version') return await versionCommand.run(argv, context)
    const command = findCommand(COMMANDS, name)
    if (argv.some((argument) => HELP_FLAGS.has(argument))) {
      context.stdout.write(commandHelp(command))
      return 0
    }
    return await command.run(argv, context)
  } catch (error) {
    return report(error, context)
  } finally {
    clearInterval(alive)
  }
}

function report(error: unknown, context: CliContext): ExitCode {
  const message = error instanceof Error ? error.message : String(error)
  context.stderr.write(`tidegate: ${message}\n`)
  if (error instanceof UsageError) {
    context.stderr.write('tidegate help lists the commands\n')
    return 2
  }
  if (error instanceof ConfigError || error instanceof DataDirectoryUnusable || error instanceof ClusterRefused)
    return 2
  if (error instanceof DataDirectoryInUse) return 3
  // Not foreseen: where it happened helps whoever gets the report.
  if (error instanceof Error && error.stack !== undefined && !(error.name in EXPECTED_FAILURES))
    context.stderr.write(`${error.stack}\n`)
  return 1
}

/** Failures whose message says all there is to say. */
const EXPECTED_FAILURES: Readonly<Record<string, true>> = {
  GatewayError: true,
  KvError: true,
  ListenError: true,
  RevisionGone: true,
  TidegateError: true,
}
