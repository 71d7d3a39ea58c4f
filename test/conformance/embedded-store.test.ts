import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LmdbBackend } from '../../src/meta/lmdb/lmdb-backend.ts'
import { MemoryBackend } from '../../src/meta/memory/memory-backend.ts'
import { testEmbeddedStore } from './embedded-store.ts'

testEmbeddedStore('memory', { create: async () => new MemoryBackend(), dispose: async () => {} })

const directories: string[] = []

testEmbeddedStore('lmdb', {
  create: async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tidegate-lmdb-'))
    directories.push(directory)
    return new LmdbBackend({ directory })
  },
  dispose: async () => {
    for (const directory of directories.splice(0)) await rm(directory, { recursive: true })
  },
})
