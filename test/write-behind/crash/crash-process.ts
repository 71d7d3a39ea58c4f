/**
 * `node crash-process.ts POINT NTH ARGUMENTS...`: `tidegate ARGUMENTS...`, as it is, but that names leave and the remote store is tidied every
 * moment, and that it ends itself with SIGKILL when it passes that point of the path for the n-th time (points.ts). `none` is no point.
 */
import { runCli } from '../../../src/cli/run.ts'
import { serve } from '../../../src/serve.ts'
import { withCrashPoints } from './decorate.ts'
import { inHaste } from './haste.ts'
import { isCrashPoint, passingUntil, type Passing } from './points.ts'

const [point = '', nth = '', ...argv] = process.argv.slice(2)
if (point !== 'none' && !isCrashPoint(point)) throw new Error(`there is no point ${point}`)
const passing: Passing = point === 'none' ? () => false : passingUntil(point, Number(nth))
process.exitCode = await runCli({
  argv,
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  serve: (config) => serve(config, { decorate: (parts) => withCrashPoints(inHaste(parts), passing) }),
})
