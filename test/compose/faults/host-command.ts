import { runCommand } from '../../support/run-command.ts'

const TIMEOUT_MS = 20_000

/** Runs a program of this machine. @returns its output. Rejects with that when it fails. */
export async function onHost(command: readonly [string, ...string[]]): Promise<string> {
  const { code, output } = await runCommand(command, { show: false, timeoutMs: TIMEOUT_MS })
  if (code !== 0) throw new Error(`${command.join(' ')}: ${output.trim()}`)
  return output
}
