import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Where a worker thread's file lies: beside the file that starts it, and with the same ending, since that is `.ts` in a
 * checkout and `.js` in `dist/` (tsc rewrites import paths, but not the URLs that are handed to `new Worker`).
 *
 *     new Worker(workerEntry(import.meta.url, 'hash-worker'))
 */
export function workerEntry(importMetaUrl: string, name: string): URL {
  return new URL(`./${name}${extname(fileURLToPath(importMetaUrl))}`, importMetaUrl)
}
