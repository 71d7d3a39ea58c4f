/**
 * Compression in the engine's own thread, for the simulation: what comes back from a pool of threads comes when it likes, and then no seed
 * repeats a run. Imported before anything that takes these functions from `node:zlib`, so it works by being imported.
 */
import { syncBuiltinESMExports } from 'node:module'
import zlib from 'node:zlib'

type Done = (error: Error | null, result: Buffer) => void

function inline<Options>(work: (input: Buffer, options: Options) => Buffer) {
  return (input: Buffer, options: Options, done: Done): void => {
    queueMicrotask(() => {
      let result: Buffer
      try {
        result = work(input, options)
      } catch (error) {
        return done(error as Error, Buffer.alloc(0))
      }
      done(null, result)
    })
  }
}

Object.assign(zlib, { zstdCompress: inline(zlib.zstdCompressSync), zstdDecompress: inline(zlib.zstdDecompressSync) })
syncBuiltinESMExports()

/** Of which the simulation assures itself. */
export const COMPRESSES_INLINE = true
