/** Images on a machine that may be able to pull none. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { provideBaseImage } from './base-image.ts'
import type { Engine } from './engine.ts'

const BUILD_MS_MAX = 900_000

export interface BuildOptions {
  readonly tag: string
  readonly context: string
  /** The one of the context unless given. */
  readonly dockerfile?: string
}

/** What it stands on is made here if it cannot be had. */
export async function buildImage(
  engine: Engine,
  { tag, context, dockerfile = join(context, 'Dockerfile') }: BuildOptions,
): Promise<void> {
  for (const base of baseImages(readFileSync(dockerfile, 'utf8'))) await provideBaseImage(engine, base)
  const command = ['build', '--network', 'host', '--progress', 'plain', '-t', tag, '-f', dockerfile, context]
  await engine.docker(command, { timeoutMs: BUILD_MS_MAX, env: { DOCKER_BUILDKIT: '1' } })
}

function baseImages(dockerfile: string): Set<string> {
  const stages = [...dockerfile.matchAll(/^FROM\s+(\S+)(?:\s+AS\s+(\S+))?/gim)]
  const names = new Set(stages.map(([, , name]) => name))
  return new Set(stages.flatMap(([, from = '']) => (names.has(from) || from === 'scratch' ? [] : [from])))
}
