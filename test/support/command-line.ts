/** The `tidegate` command as a user runs it, when it is expected to end by itself. */
import { runCommand, type CommandResult } from './run-command.ts'

const ENDS_MS_MAX = 60_000

export function runTidegate(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const credentials = { TIDEGATE_ROOT_USER: 'AKCOMMANDLINE', TIDEGATE_ROOT_PASSWORD: 'only for the command line' }
  return runCommand([process.execPath, 'src/main.ts', ...args], {
    show: false,
    timeoutMs: ENDS_MS_MAX,
    // Ours, and no options of the gateway, which refuses what it does not know.
    env: {
      TIDEGATE_TEST_SEED: undefined,
      TIDEGATE_ETCD: undefined,
      TIDEGATE_TEST_META: undefined,
      ...credentials,
      ...env,
    },
  })
}
