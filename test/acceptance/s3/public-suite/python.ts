/** The suite's Python: a virtual environment with what it imports, made once and kept in the user's cache directory. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** The newest clients that users have: boto3 1.43 is the first to send CRC64NVME unless told otherwise. */
const PACKAGES = ['boto3>=1.43', 'pytest', 'pytest-timeout', 'requests', 'isodate', 'pytz', 'python-dateutil', 'munch']

/** Path of a Python that can run the suite. */
export function preparePython(): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')
  const directory = join(cache, 'tidegate', 's3-tests-python')
  const python = join(directory, 'bin', 'python')
  const complete = join(directory, 'complete')
  if (existsSync(complete)) return python
  process.stderr.write(`making a Python environment in ${directory}\n`)
  mkdirSync(directory, { recursive: true })
  execFileSync('python3', ['-m', 'venv', '--clear', directory], { stdio: 'inherit' })
  execFileSync(python, ['-m', 'pip', 'install', '--quiet', ...PACKAGES], { stdio: 'inherit' })
  writeFileSync(complete, PACKAGES.join('\n'))
  return python
}
