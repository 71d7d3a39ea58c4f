/**
 * `node clock-process.ts ARGUMENTS...`: `tidegate ARGUMENTS...` with an engine whose clock jumps by a day at every SIGUSR2: forward, and
 * back again. Monotonic time goes on as it does on any machine.
 */
import { runCli } from '../../../src/cli/run.ts'
import type { Clock } from '../../../src/common/clock.ts'
import { serve } from '../../../src/serve.ts'

const JUMP_MS = 86_400_000

let jumpedMs = 0
process.on('SIGUSR2', () => {
  jumpedMs = JUMP_MS - jumpedMs
})

function jumping(clock: Clock): Clock {
  return { ...clock, nowMs: () => clock.nowMs() + jumpedMs }
}

process.exitCode = await runCli({
  argv: process.argv.slice(2),
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  serve: (config) => serve(config, { decorate: (parts) => ({ ...parts, clock: jumping(parts.clock) }) }),
})
