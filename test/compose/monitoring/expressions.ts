/** What docker/monitoring asks Prometheus: the expressions of dashboards and alerts. */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import { REPOSITORY } from '../../support/run-command.ts'

const MONITORING = join(REPOSITORY, 'docker', 'monitoring')
const ALERTS = join(MONITORING, 'alerts.yml')
const DASHBOARDS = join(MONITORING, 'grafana', 'dashboards')

/** What of Grafana's dashboards is read here. */
interface Dashboard {
  readonly uid: string
  readonly annotations: {
    readonly list: readonly { readonly name: string; readonly target: { readonly expr: string } }[]
  }
  readonly links: readonly { readonly url: string }[]
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition: string }[] }
  readonly panels: readonly Panel[]
}

export interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly datasource?: { readonly uid: string }
  readonly targets?: readonly {
    readonly refId: string
    readonly expr: string
    readonly datasource: { readonly uid: string }
  }[]
}

interface Alert {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly description: string }
}

interface Expression {
  /** A panel of a dashboard, or an alert. */
  readonly where: string
  readonly expression: string
}

export function dashboards(): Dashboard[] {
  return globSync('*.json', { cwd: DASHBOARDS })
    .sort()
    .map((name) => JSON.parse(readFileSync(join(DASHBOARDS, name), 'utf8')) as Dashboard)
}

export function alerts(): Alert[] {
  const file = parse(readFileSync(ALERTS, 'utf8')) as { groups: readonly { rules: readonly Alert[] }[] }
  return file.groups.flatMap(({ rules }) => rules)
}

export function expressions(): Expression[] {
  const ofDashboards = dashboards().flatMap(({ uid, annotations, panels }) => [
    ...annotations.list.map(({ name, target }) => ({ where: `${uid}: ${name}`, expression: target.expr })),
    ...panels.flatMap(({ title, targets = [] }) =>
      targets.map(({ expr }) => ({ where: `${uid}: ${title}`, expression: expr })),
    ),
  ])
  return [...ofDashboards, ...alerts().map(({ alert, expr }) => ({ where: alert, expression: expr }))]
}

/** With what an expression compares at its end, if it does: only then is it empty while all is well. */
export const COMPARISON: RegExp = /\s(==|>|<)\s([\d.]+)$/

/** Variables filled in as Grafana would. A comparison answers 0 or 1 rather than nothing: so what is compared must be there. */
export function askable(expression: string): string {
  return expression
    .replaceAll('$__rate_interval', '1m')
    .replaceAll('$instance', '.*')
    .replace(COMPARISON, ' $1 bool $2')
}

export function metricsOf(expression: string): Set<string> {
  return new Set([...expression.matchAll(/\btidegate_\w+/g)].map(([name]) => name))
}
