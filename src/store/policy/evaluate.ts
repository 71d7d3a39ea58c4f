import { KNOWN_ACTIONS } from './actions.ts'
import { compileCondition } from './conditions.ts'
import { checkDocument, policyError } from './document.ts'
import { compilePattern, parsePattern } from './pattern.ts'
import type { AccessContext } from '../access.ts'
import type { CompiledCondition } from './conditions.ts'
import type { CheckedStatement, Selection } from './document.ts'
import type { PolicyVariables, TextMatcher } from './pattern.ts'

/**
 * A user's policies, compiled. Variables are known when a user is loaded, so they are filled in then. What an action's
 * statements are is worked out once an action, so a decision looks at those alone: Deny before Allow, neither is a no.
 */
export interface CompiledPolicies {
  /** `resource`: `bucket`, `bucket/key`, or '' for what concerns no bucket (ListBuckets). `facts` is asked only if a condition needs it. */
  allows(action: string, resource: string, facts: () => AccessContext): boolean
}

interface CompiledStatement {
  readonly effect: 'Allow' | 'Deny'
  readonly matchesAction: TextMatcher
  readonly matchesResource: TextMatcher
  readonly conditions: readonly CompiledCondition[]
}

interface ActionStatements {
  readonly deny: readonly CompiledStatement[]
  readonly allow: readonly CompiledStatement[]
}

const ACTIONS_REMEMBERED_MAX = 1024

/** @throws InvalidArgument naming what a document holds that is not known */
export function compilePolicies(
  documents: readonly { readonly document: unknown; readonly where: string }[],
  variables: PolicyVariables,
): CompiledPolicies {
  const statements = documents.flatMap(({ document, where }) =>
    checkDocument(document, where).map((statement) => compileStatement(statement, variables)),
  )
  const byAction = new Map<string, ActionStatements>()
  const statementsFor = (action: string): ActionStatements => {
    const found = byAction.get(action)
    if (found !== undefined) return found
    const lower = action.toLowerCase()
    const relevant = statements.filter((statement) => statement.matchesAction(lower))
    const sorted: ActionStatements = {
      deny: relevant.filter((statement) => statement.effect === 'Deny'),
      allow: relevant.filter((statement) => statement.effect === 'Allow'),
    }
    if (byAction.size < ACTIONS_REMEMBERED_MAX) byAction.set(action, sorted)
    return sorted
  }
  return {
    allows(action, resource, facts) {
      const { deny, allow } = statementsFor(action)
      if (allow.length === 0) return false
      return !someApplies(deny, resource, facts) && someApplies(allow, resource, facts)
    },
  }
}

function someApplies(statements: readonly CompiledStatement[], resource: string, facts: () => AccessContext): boolean {
  for (const { matchesResource, conditions } of statements) {
    if (!matchesResource(resource)) continue
    if (conditions.length === 0) return true
    const context = facts()
    if (conditions.every((holds) => holds(context))) return true
  }
  return false
}

function compileStatement(statement: CheckedStatement, variables: PolicyVariables): CompiledStatement {
  const { where } = statement
  return {
    effect: statement.effect,
    matchesAction: compileSelection(statement.actions, (source) => compileAction(source, where)),
    matchesResource: compileSelection(statement.resources, (source) => compileResource(source, where, variables)),
    conditions: statement.conditions.map((condition) => compileCondition(condition, variables)),
  }
}

function compileSelection(selection: Selection, compile: (source: string) => TextMatcher): TextMatcher {
  const matchers = selection.values.map(compile)
  const [only] = matchers
  if (matchers.length === 1 && only !== undefined && !selection.negated) return only
  return (text) => matchers.some((matches) => matches(text)) !== selection.negated
}

/** Actions are matched without case, and hold no variables. */
function compileAction(source: string, where: string): TextMatcher {
  const fail = (what: string): Error => policyError(where, what)
  const matches = compilePattern(parsePattern(source.toLowerCase(), {}, fail))
  if (source !== '*' && !KNOWN_ACTIONS.some(matches)) throw fail(`unknown action ${JSON.stringify(source)}`)
  return matches
}

const S3_ARN = 'arn:aws:s3:::'

function compileResource(source: string, where: string, variables: PolicyVariables): TextMatcher {
  const fail = (what: string): Error => policyError(where, what)
  if (source === '*') return () => true
  if (!source.startsWith(S3_ARN) || source.length === S3_ARN.length) {
    throw fail(`unknown resource ${JSON.stringify(source)}; expecting * or ${S3_ARN}BUCKET[/KEY]`)
  }
  return compilePattern(parsePattern(source.slice(S3_ARN.length), variables, fail))
}
