/** Runs one kind of lifetime-process.ts and says how it ended; as it is, or with an addon that watches its own memory (AddressSanitizer). */
import { execFile } from 'node:child_process'
import { chmodSync, cpSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { REPOSITORY, runCommand, type CommandResult } from '../../support/run-command.ts'

const PROGRAM = join('test', 'rdma', 'lifetime', 'lifetime-process.ts')
const KIND_TIMEOUT_MS = 3_600_000

export interface Checkout {
  readonly root: string
  readonly env: Readonly<Record<string, string>>
}

/** glibc's arenas would grow with the threads that come and go, and hide what does not. */
const PLAIN_ENV = { MALLOC_ARENA_MAX: '1' } as const

export const PLAIN: Checkout = { root: REPOSITORY, env: PLAIN_ENV }

export function runKind(checkout: Checkout, kind: string, rounds: number): Promise<CommandResult> {
  return runCommand(['node', '--expose-gc', join(checkout.root, PROGRAM), kind, String(rounds)], {
    show: false,
    timeoutMs: KIND_TIMEOUT_MS,
    env: checkout.env,
  })
}

/**
 * A copy of the sources whose addons are built with the sanitizer, which is loaded before Node. What Node itself keeps until it ends is no leak of ours, so leaks are
 * watched by their growth alone, and what it withholds of freed memory is bounded far below that: by default it would be 256 MiB.
 */
export async function makeWatchedCheckout(): Promise<Checkout> {
  const root = mkdtempSync(join(tmpdir(), 'tidegate-asan-'))
  for (const folder of ['src', 'native', join('test', 'rdma', 'lifetime')]) {
    cpSync(join(REPOSITORY, folder), join(root, folder), {
      recursive: true,
      filter: (source) => !source.endsWith('.node'),
    })
  }
  cpSync(join(REPOSITORY, 'package.json'), join(root, 'package.json'))
  symlinkSync(join(REPOSITORY, 'node_modules'), join(root, 'node_modules'))
  const compiler = join(root, 'cc-watched')
  writeFileSync(compiler, '#!/bin/sh\nexec cc -fsanitize=address -g -fno-omit-frame-pointer "$@"\n')
  chmodSync(compiler, 0o755)
  const { stdout } = await promisify(execFile)('cc', ['-print-file-name=libasan.so'])
  return {
    root,
    env: { CC: compiler, LD_PRELOAD: stdout.trim(), ASAN_OPTIONS: 'detect_leaks=0:quarantine_size_mb=16' },
  }
}
