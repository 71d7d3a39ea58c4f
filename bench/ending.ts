/**
 * What must be undone however the run ends: mounts that would hang whoever meets them, processes that nobody would stop. A signal
 * ends the run in the same way as its last line does. All of it is synchronous, since nothing else runs any more by then.
 */
const SIGNAL_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const

const undoing = new Set<() => void>()
let isListening = false

/** Called when the run ends, the last to be registered first. @returns takes it back, once it has been undone in the usual way */
export function whenEnding(undo: () => void): () => void {
  if (!isListening) listen()
  undoing.add(undo)
  return () => void undoing.delete(undo)
}

function listen(): void {
  isListening = true
  process.on('exit', () => {
    for (const undo of [...undoing].reverse()) {
      try {
        undo()
      } catch (error) {
        process.stderr.write(`bench: could not clean up: ${(error as Error).message}\n`)
      }
    }
  })
  for (const [signal, code] of Object.entries(SIGNAL_CODES)) process.once(signal, () => process.exit(code))
}
