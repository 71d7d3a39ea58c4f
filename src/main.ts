/**
 * The entry point: refuses a Node that is too old before anything newer is loaded, then hands over to the command line.
 * The composition root is this file, serve.ts (doors over an engine) and engine.ts (the engine over its parts).
 */
import { setFlagsFromString } from 'node:v8'
import { nodeTooOld } from './cli/node-version.ts'

/** With the V8 of this Node and later ones the flag below was tried. */
const TRIED_NODE = 26

const tooOld = nodeTooOld(process.versions.node)
if (tooOld !== undefined) {
  process.stderr.write(`${tooOld}\n`)
  process.exit(2)
}

// What comes over a socket lies in memory outside V8's heap. By default V8 collects the whole heap for every few tens of MiB of it, which
// took half of the CPU of receiving; with this it is counted against the limit of the heap as a whole. Before threads start: they have it too.
// An older V8 that does not know the flag would say so on stderr.
if (Number.parseInt(process.versions.node, 10) >= TRIED_NODE) {
  setFlagsFromString('--external-memory-accounted-in-global-limit')
}

const { runCli } = await import('./cli/run.ts')
process.exitCode = await runCli({
  argv: process.argv.slice(2),
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  // Most commands need no gateway, which takes long to load.
  serve: async (config) => {
    const { serve } = await import('./serve.ts')
    await serve(config)
  },
})
