/**
 * The Test Anything Protocol, as far as pjdfstest speaks it: a plan `1..N`, and a line for each assertion, which may carry a
 * directive. What a plan promises and no line says has failed: the script broke off.
 */

export type Verdict = 'passed' | 'failed' | 'skipped'

export interface Assertion {
  readonly number: number
  readonly verdict: Verdict
  /** What the line says beside. */
  readonly text: string
}

const PLAN = /^1\.\.(\d+)/
const LINE = /^(not )?ok\b *(\d+)?(.*)$/
/** The suite's own word for what it expects to fail on this system, and for what it does not try there. */
const DIRECTIVE = /#\s*(todo|skip)\b/i

/** Every assertion of one script, in order. */
export function readTap(output: string): Assertion[] {
  const assertions: Assertion[] = []
  let planned: number | undefined
  for (const line of output.split('\n')) {
    const plan = PLAN.exec(line)
    if (plan !== null) planned = Number(plan[1])
    const match = LINE.exec(line)
    if (match === null) continue
    const [, not, given, rest = ''] = match
    const number = given === undefined ? assertions.length + 1 : Number(given)
    assertions.push({ number, verdict: verdictOf(not === undefined, rest), text: rest.trim() })
  }
  const seen = new Set(assertions.map(({ number }) => number))
  // Without a plan nobody knows how many there should have been.
  if (planned === undefined) return [...assertions, { number: 0, verdict: 'failed', text: 'no plan' }]
  for (let number = 1; number <= planned; number++) {
    if (!seen.has(number)) assertions.push({ number, verdict: 'failed', text: 'not run' })
  }
  const beyond = assertions.filter(({ number }) => number > planned)
  if (beyond.length > 0) assertions.push({ number: 0, verdict: 'failed', text: `${beyond.length} beyond the plan` })
  return assertions
}

function verdictOf(ok: boolean, rest: string): Verdict {
  const directive = DIRECTIVE.exec(rest)?.[1]?.toLowerCase()
  if (directive === 'skip') return 'skipped'
  if (ok) return 'passed'
  return directive === 'todo' ? 'skipped' : 'failed'
}
