/**
 * The `tidegate` command: finds the sub-command, runs it, and turns what it throws into one line on stderr and an exit code.
 */
import { commandHelp, findCommand, helpCommand, overview } from './help.ts'
import type { CliContext, ExitCode } from './command.ts'
import type { Commands } from './help.ts'

/** Each is loaded when it is asked for: what only one needs, the others do not wait for. */
const COMMANDS: Commands = {
  serve: async () => (await import('./serve.ts')).serveCommand,
  health: async () => (await import('./health.ts')).healthCommand,
  credentials: async () => (await import('./credentials.ts')).credentialsCommand,
  kv: async () => (await import('./kv.ts')).kvCommand,
  token: async () => (await import('./token.ts')).tokenCommand,
  mount: async () => (await import('./mount.ts')).mountCommand,
  umount: async () => (await import('./umount.ts')).umountCommand,
  bucket: async () => (await import('./bucket.ts')).bucketCommand,
  flush: async () => (await import('./flush.ts')).flushCommand,
  status: async () => (await import('./status.ts')).statusCommand,
  cluster: async () => (await import('./cluster.ts')).clusterCommand,
  node: async () => (await import('./node.ts')).nodeCommand,
  meta: async () => (await import('./meta.ts')).metaCommand,
  backup: async () => (await import('./backup.ts')).backupCommand,
  restore: async () => (await import('./restore.ts')).restoreCommand,
  rebuild: async () => (await import('./rebuild.ts')).rebuildCommand,
  config: async () => (await import('./config.ts')).configCommand,
  version: async () => (await import('./version.ts')).versionCommand,
  help: () => Promise.resolve(helpCommand(COMMANDS)),
}

const HELP_FLAGS: ReadonlySet<string> = new Set(['--help', '-h'])
const COMMAND_BY_FLAG: ReadonlyMap<string, string> = new Map([
  ['--help', 'help'],
  ['-h', 'help'],
  ['--version', 'version'],
])

const ALIVE_MS = 60_000

/** Runs one command. Resolves with the exit code; never rejects. */
export async function runCli(context: CliContext): Promise<ExitCode> {
  const [name, ...argv] = context.argv
  // Pauses do not keep the process alive (common/clock.ts): a command that waits between two attempts must not end there.
  const alive = setInterval(() => undefined, ALIVE_MS)
  try {
    if (name === undefined) {
      context.stderr.write(await overview(COMMANDS))
      return 2
    }
    const command = await findCommand(COMMANDS, COMMAND_BY_FLAG.get(name) ?? name)
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
  const name = error instanceof Error ? error.name : ''
  if (name === 'UsageError') context.stderr.write('tidegate help lists the commands\n')
  const code = EXIT_CODE_BY_ERROR.get(name)
  // Not foreseen: where it happened helps whoever gets the report.
  if (code === undefined && error instanceof Error && error.stack !== undefined) {
    context.stderr.write(`${error.stack}\n`)
  }
  return code ?? 1
}

/** Failures whose message says all there is to say. By name, since their classes are loaded only with what throws them. */
const EXIT_CODE_BY_ERROR: ReadonlyMap<string, ExitCode> = new Map([
  ['UsageError', 2],
  ['ConfigError', 2],
  ['DataDirectoryUnusable', 2],
  ['ClusterRefused', 2],
  ['DataDirectoryInUse', 3],
  ['GatewayError', 1],
  ['KvError', 1],
  ['ListenError', 1],
  ['RevisionGone', 1],
  ['TidegateError', 1],
])
