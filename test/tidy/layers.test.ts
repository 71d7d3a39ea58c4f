/**
 * Who may import whom. Folder names that announce layers are worth nothing unless something checks them; this does, over
 * the import statements themselves. It fails when it sees no files, so that a moved tree cannot pass by being empty.
 */
import { dirname, join, normalize } from 'node:path'
import { expect, it } from 'vitest'
import { textOf, trackedFiles } from './tracked-files.ts'

/** Layer by path, the most specific first. */
const LAYERS: readonly (readonly [prefix: string, layer: string])[] = [
  ['src/attach/', 'attach'],
  ['src/cli/', 'cli'],
  ['src/client/', 'client'],
  ['src/common/', 'common'],
  ['src/config/', 'config'],
  ['src/meta/', 'meta'],
  ['src/cache-tier/', 'cache-tier'],
  ['src/persist/', 'persist'],
  ['src/rdma/', 'rdma'],
  ['src/store/ports.ts', 'store seam'],
  ['src/store/doors.ts', 'store seam'],
  ['src/store/types.ts', 'store seam'],
  ['src/store/access.ts', 'store seam'],
  ['src/store/kv-types.ts', 'store seam'],
  ['src/store/file-ports.ts', 'store seam'],
  ['src/store/', 'store'],
  ['src/gateway/http/', 'gateway/http'],
  ['src/gateway/s3/', 'gateway/s3'],
  ['src/gateway/kv/', 'gateway/kv'],
  ['src/gateway/admin/', 'gateway/admin'],
  ['src/gateway/fuse/', 'gateway/fuse'],
  ['test/', 'test'],
  ['bench/', 'bench'],
]

/** The composition root: main.ts and what it is made of, the files that lie beside it. */
const ROOT_FILE = /^src\/[^/]+\.ts$/

/** Beside itself, a layer may import these. The root, `cli`, `test` and `bench` may import anything but tests. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  // It sees the store's seam, since it stands between store and metadata, and satisfies that.
  attach: ['common', 'store seam'],
  common: [],
  // Beside node: it needs nothing, so that it can be used in other programs.
  client: ['common'],
  config: ['common'],
  meta: ['common'],
  'cache-tier': ['common'],
  persist: ['common'],
  rdma: ['common'],
  'store seam': ['common'],
  store: ['common', 'store seam'],
  'gateway/http': ['common', 'store seam'],
  'gateway/s3': ['common', 'store seam', 'gateway/http'],
  'gateway/kv': ['common', 'store seam', 'gateway/http'],
  'gateway/admin': ['common', 'store seam', 'gateway/http'],
  'gateway/fuse': ['common', 'store seam'],
}
const ANYTHING: ReadonlySet<string> = new Set(['root', 'cli', 'test', 'bench'])
const IMPORTED = /\b(?:from|import)\s*\(?\s*['"](\.[^'"]+)['"]|new URL\(\s*['"](\.[^'"]+\.ts)['"]/g

function layerOf(path: string): string | undefined {
  if (ROOT_FILE.test(path)) return 'root'
  return LAYERS.find(([prefix]) => path.startsWith(prefix))?.[1]
}

/** What is wrong with one import, if anything. */
function objection(from: string, to: string): string | undefined {
  const [importer, imported] = [layerOf(from), layerOf(to)]
  if (importer === undefined || imported === undefined) return `${from} -> ${to}: a folder without a layer`
  if (importer === imported) return undefined
  if (imported === 'test' && importer !== 'bench') return `${from} -> ${to}: nothing imports tests`
  if (ANYTHING.has(importer) || MAY_IMPORT[importer]?.includes(imported)) return undefined
  return `${from} -> ${to}: ${importer} may not import ${imported}`
}

function importsOf(path: string, text: string): string[] {
  return [...text.matchAll(IMPORTED)].map(([, plain, url]) => normalize(join(dirname(path), plain ?? url ?? '')))
}

it('imports only downwards, between the folders that DESIGN allows', () => {
  const files = trackedFiles().filter((path) => /^(src|bench|test)\/.*\.ts$/.test(path))
  const imports = files.flatMap((from) => importsOf(from, textOf(from)).map((to) => ({ from, to })))
  expect(imports.filter(({ from }) => from.startsWith('src/')).length).toBeGreaterThan(50)
  expect(imports.map(({ from, to }) => objection(from, to)).filter((found) => found !== undefined)).toEqual([])
})

it('would object to what is forbidden', () => {
  expect(objection('src/gateway/s3/a.ts', 'src/meta/ports.ts')).toContain('may not import meta')
  expect(objection('src/gateway/s3/a.ts', 'src/gateway/kv/b.ts')).toContain('may not import')
  expect(objection('src/gateway/s3/a.ts', 'src/store/objects.ts')).toContain('may not import store')
  expect(objection('src/common/a.ts', 'src/config/b.ts')).toContain('may not import')
  expect(objection('src/client/a.ts', 'src/store/types.ts')).toContain('may not import')
  expect(objection('src/store/a.ts', 'src/client/b.ts')).toContain('may not import')
  expect(objection('src/cache-tier/a.ts', 'src/persist/b.ts')).toContain('may not import')
  expect(objection('src/store/a.ts', 'src/main.ts')).toContain('may not import')
  expect(objection('src/cli/a.ts', 'test/b.ts')).toContain('nothing imports tests')
  expect(objection('src/elsewhere/a.ts', 'src/common/b.ts')).toContain('without a layer')
  const text = `import { a } from './b.ts'\nawait import("../c.ts")\nnew Worker(new URL('./d.ts', import.meta.url))`
  expect(importsOf('src/x/y.ts', text)).toEqual(['src/x/b.ts', 'src/c.ts', 'src/x/d.ts'])
})
