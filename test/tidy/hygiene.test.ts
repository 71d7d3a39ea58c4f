/**
 * The habits of this repository, held by a test: what a reviewer would otherwise have to say again and again.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { configurationPage } from '../../src/config/documentation.ts'
import { REPOSITORY } from '../support/run-command.ts'
import { textOf, trackedFiles } from './tracked-files.ts'

const LINES_MAX = 500
/** Lists of words would find themselves. */
const THIS_FILE = 'test/tidy/hygiene.test.ts'

const files = trackedFiles()
const code = files.filter((path) => /^(src|test|bench)\/.*\.ts$/.test(path) && path !== THIS_FILE)
const texts = files.filter((path) => !/\.(png|ico|woff2|gz|bin|pem)$/.test(path) && path !== THIS_FILE)

/** `path:line: text` of every line that matches. */
function matchingLines(paths: readonly string[], pattern: RegExp): string[] {
  return paths.flatMap((path) =>
    textOf(path)
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim().slice(0, 120)}`] : [])),
  )
}

it('sees the repository', () => {
  expect(code.filter((path) => path.startsWith('src/')).length).toBeGreaterThan(30)
})

it('keeps source files readable in one sitting', () => {
  const long = code.filter((path) => path.startsWith('src/') && textOf(path).split('\n').length > LINES_MAX + 1)
  expect(long).toEqual([])
})

it('leaves nothing for later', () => {
  expect(
    matchingLines(
      code,
      /\b(TODO|FIXME|XXX|HACK)\b|\bfor now\b|\b[Ss]implified\b|\b[Ss]tub(bed)?\b|not implemented yet/,
    ),
  ).toEqual([])
})

it('names no machine, registry or workplace', () => {
  const paths = /(?:^|[\s'"`(=:])\/(?:work|home|root|Users|workspace)\/[\w.-]/
  const hosts = /registry\.npmjs\.org|registry\.yarnpkg|artifactory|nexus\b.*\/repository|\/npm-proxy/i
  expect(matchingLines(texts, paths)).toEqual([])
  expect(matchingLines(texts, hosts)).toEqual([])
})

it('has a lock file without addresses, so that any registry serves it', () => {
  expect(textOf('package-lock.json')).not.toContain('"resolved"')
})

it('runs every test it has', () => {
  const tests = code.filter((path) => path.startsWith('test/'))
  expect(
    matchingLines(tests, /\b(?:it|test|describe|suite|bench)(?:\.concurrent|\.each)?\.(?:only|skip|todo)\b/),
  ).toEqual([])
})

it('has names that say something', () => {
  expect(code.filter((path) => /(^|\/)(utils?|helpers?|misc|manager)(\/|\.ts$)/.test(path))).toEqual([])
})

it('has a configuration page that is current (npm run -s tidegate -- config docs > docs/configuration.md)', () => {
  expect(textOf('docs/configuration.md')).toBe(configurationPage())
})

it('has a map that names every folder of src, and only what exists', () => {
  const map = textOf('docs/ARCHITECTURE.md')
  expect(map.split('\n').length).toBeLessThan(300)
  const folders = new Set(
    code
      .filter((path) => path.startsWith('src/') && path.split('/').length > 2)
      .map((path) => path.split('/')[1] ?? ''),
  )
  expect(folders.size).toBeGreaterThan(4)
  const named = [...map.matchAll(/\b((?:src|test|docs|bench)\/[\w./-]*[\w/])/g)].map(([, path]) => path ?? '')
  expect([...folders].filter((folder) => !named.some((path) => `${path}/`.startsWith(`src/${folder}/`)))).toEqual([])
  expect(named.filter((path) => !existsSync(join(REPOSITORY, path)))).toEqual([])
})
