/** docker/monitoring against the rest of the repository. That Prometheus understands it, and finds what it asks for, is seen in test/compose. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import {
  alerts,
  COMPARISON,
  dashboards,
  expressions,
  metricsOf,
  type Panel,
} from '../compose/monitoring/expressions.ts'
import { REPOSITORY } from '../support/run-command.ts'
import { textOf, trackedFiles } from './tracked-files.ts'

const COLUMNS = 24
/** What Prometheus' text format adds to the names that the gateway gives. */
const ADDED = /_(?:total|bucket|sum|count)$/
/** Functions of what only grows. */
const GROWING = /\b(?:rate|increase)\((tidegate_\w+)/g

/** As src names them, with dots or underscores. */
function gatewayMetrics(): Set<string> {
  const source = trackedFiles().filter((path) => /^src\/.*metrics\.ts$/.test(path))
  const names = source.flatMap((path) =>
    [...textOf(path).matchAll(/'(tidegate[._][a-z_.]+)'/g)].map(([, name = '']) => name),
  )
  return new Set(names.map((name) => name.replaceAll('.', '_')))
}

function unknownMetrics(expression: string, known: ReadonlySet<string>): string[] {
  return [...metricsOf(expression)].filter((name) => !known.has(name) && !known.has(name.replace(ADDED, '')))
}

function doOverlap({ gridPos: a }: Panel, { gridPos: b }: Panel): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
}

function withoutDoubles(list: readonly (string | number)[]): (string | number)[] {
  return [...new Set(list)]
}

it('asks for metrics that the gateway has', () => {
  const known = gatewayMetrics()
  expect(known.size).toBeGreaterThan(80)
  expect(expressions().length).toBeGreaterThan(80)
  const unknown = expressions().flatMap(({ where, expression }) =>
    unknownMetrics(expression, known).map((name) => `${where}: ${name}`),
  )
  expect(unknown).toEqual([])
  expect(unknownMetrics('rate(tidegate_renamed_total[1m]) / tidegate_revision', known)).toEqual([
    'tidegate_renamed_total',
  ])
})

it('takes rates of what grows, and of nothing else', () => {
  for (const { where, expression } of expressions()) {
    const growing = new Set([...expression.matchAll(GROWING)].map(([, name]) => name))
    expect(
      [...metricsOf(expression)].filter((name) => ADDED.test(name) !== growing.has(name)),
      where,
    ).toEqual([])
  }
})

it('has dashboards that Grafana can lay out', () => {
  const uids = dashboards().map(({ uid }) => uid)
  expect(uids.length).toBeGreaterThan(1)
  expect(withoutDoubles(uids)).toEqual(uids)
  for (const { uid, panels, links } of dashboards()) {
    const ids = panels.map(({ id }) => id)
    expect(withoutDoubles(ids), uid).toEqual(ids)
    expect(panels.filter(({ gridPos: { x, w } }) => x + w > COLUMNS)).toEqual([])
    const overlaps = panels.filter((panel, index) => panels.slice(index + 1).some((other) => doOverlap(panel, other)))
    expect(
      overlaps.map(({ title }) => title),
      uid,
    ).toEqual([])
    expect(links.filter(({ url }) => !uids.includes(url.replace('/d/', '')))).toEqual([])
    const titles = panels.filter(({ type }) => type !== 'row').map(({ title }) => title)
    expect(withoutDoubles(titles), uid).toEqual(titles)
  }
})

it('has panels that ask the data source there is, with variables there are', () => {
  const source = /uid: (\w+)/.exec(textOf('docker/monitoring/grafana/provisioning/datasources/prometheus.yml'))?.[1]
  expect(source).toBeDefined()
  for (const { uid, panels, templating } of dashboards()) {
    const variables = ['__rate_interval', ...templating.list.map(({ name }) => name)]
    for (const { title, type, datasource, targets = [] } of panels) {
      if (type === 'row') continue
      expect(targets.length, `${uid}: ${title}`).toBeGreaterThan(0)
      const refIds = targets.map(({ refId }) => refId)
      expect(withoutDoubles(refIds)).toEqual(refIds)
      const sources = [datasource?.uid, ...targets.map((target) => target.datasource.uid)]
      expect(sources.filter((asked) => asked !== source)).toEqual([])
      const used = targets.flatMap(({ expr }) => [...expr.matchAll(/\$(\w+)/g)].map(([, name = '']) => name))
      expect(used.filter((name) => !variables.includes(name))).toEqual([])
    }
  }
})

it('has alerts that say what to do, each of them in the manual', () => {
  const manual = textOf('docs/operating.md')
  const names = alerts().map(({ alert }) => alert)
  expect(names.length).toBeGreaterThan(10)
  expect(withoutDoubles(names)).toEqual(names)
  expect(names.filter((name) => !manual.includes(`\`${name}\``))).toEqual([])
  for (const { alert, expr, labels, annotations } of alerts()) {
    expect(expr, alert).toMatch(COMPARISON)
    expect(['critical', 'warning'], alert).toContain(labels.severity)
    expect(
      [annotations.summary, annotations.description].filter((text) => !text),
      alert,
    ).toEqual([])
  }
})

it('mounts files that are there', () => {
  const mounted = [...textOf('docker/compose.monitoring.yml').matchAll(/- (\.\/[\w./-]+):/g)].map(
    ([, path = '']) => path,
  )
  expect(mounted.length).toBeGreaterThan(3)
  expect(mounted.filter((path) => !existsSync(join(REPOSITORY, 'docker', path)))).toEqual([])
})
