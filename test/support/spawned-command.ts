/** A `tidegate` command that is ended before it ends by itself. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

export interface SpawnedCommand {
  readonly child: ChildProcess
  /** What it has written so far. */
  output(): string
  /** SIGKILL, and returns once it has ended. */
  kill(): Promise<void>
}

export function spawnTidegate(args: readonly string[]): SpawnedCommand {
  const env = { ...process.env, TIDEGATE_TEST_SEED: undefined, TIDEGATE_ETCD: undefined, TIDEGATE_TEST_META: undefined }
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
  return {
    child,
    output: () => output,
    kill: async () => {
      if (child.exitCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
}
