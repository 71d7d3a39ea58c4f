/** Reading what pytest wrote, and saying it list by list. */

export type Outcome = 'passed' | 'failed' | 'skipped'

/** What one run said, by the test's name as the lists have it; parameters are folded, the worst of them counts. */
export interface SuiteRun {
  readonly scheme: string
  readonly outcomes: ReadonlyMap<string, Outcome>
  /** First line of each failure. */
  readonly reasons: ReadonlyMap<string, string>
}

const WORSE: Record<Outcome, number> = { passed: 0, skipped: 1, failed: 2 }

const ENTITIES: Record<string, string> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' }

/** Reads the JUnit XML that `pytest --junit-xml` writes. */
export function readJunit(scheme: string, xml: string): SuiteRun {
  const outcomes = new Map<string, Outcome>()
  const reasons = new Map<string, string>()
  for (const match of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const name = (attribute(match[1] ?? '', 'name') ?? '').replace(/\[.*$/, '')
    const body = match[2] ?? ''
    const failure = /<(?:failure|error)\b([^>]*)>/.exec(body)
    const outcome: Outcome = failure ? 'failed' : /<skipped\b/.test(body) ? 'skipped' : 'passed'
    if (WORSE[outcome] >= WORSE[outcomes.get(name) ?? 'passed']) outcomes.set(name, outcome)
    if (failure && !reasons.has(name)) reasons.set(name, firstLine(attribute(failure[1] ?? '', 'message') ?? ''))
  }
  return { scheme, outcomes, reasons }
}

/** Names of a list that did not pass in a run; a test that did not run at all has not passed. */
export function notPassed(run: SuiteRun, names: readonly string[]): string[] {
  return names.filter((name) => run.outcomes.get(name) !== 'passed')
}

export function report(run: SuiteRun, listName: string, names: readonly string[]): string {
  const missing = notPassed(run, names)
  const lines = [`${run.scheme} ${listName}: ${names.length - missing.length} of ${names.length} passed`]
  for (const name of missing) {
    lines.push(`  ${run.outcomes.get(name) ?? 'not run'} ${name}  ${run.reasons.get(name) ?? ''}`.trimEnd())
  }
  return lines.join('\n')
}

function attribute(attributes: string, name: string): string | undefined {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1]
  return value?.replace(
    /&(?:#(?:x([0-9A-Fa-f]+)|(\d+))|(\w+));/g,
    (_, hex?: string, decimal?: string, entity?: string) =>
      entity === undefined
        ? String.fromCodePoint(hex === undefined ? Number(decimal) : Number.parseInt(hex, 16))
        : (ENTITIES[entity] ?? ''),
  )
}

function firstLine(text: string): string {
  const line = text.split('\n', 1)[0] ?? ''
  return line.length > 160 ? `${line.slice(0, 160)}...` : line
}
