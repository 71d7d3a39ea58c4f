import { TidegateError } from '../../common/errors.ts'

/**
 * IAM JSON policy documents as users write them (IAM User Guide, "IAM JSON policy elements reference"), for identity
 * policies: they hang on a user, so they name no Principal. What is not listed here is refused when it is loaded, never
 * kept and ignored (C36): a condition that nobody evaluates would be a door left open.
 */
export interface PolicyDocument {
  readonly Version?: string
  readonly Id?: string
  readonly Statement: PolicyStatement | readonly PolicyStatement[]
}

export type OneOrMany<T> = T | readonly T[]

export interface PolicyStatement {
  readonly Sid?: string
  readonly Effect: 'Allow' | 'Deny'
  readonly Action?: OneOrMany<string>
  readonly NotAction?: OneOrMany<string>
  readonly Resource?: OneOrMany<string>
  readonly NotResource?: OneOrMany<string>
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, OneOrMany<string | number | boolean>>>>>
}

/** A statement whose shape is known to be right: every list is a list, and of each pair exactly one is set. */
export interface CheckedStatement {
  /** Where it stands, for messages. */
  readonly where: string
  readonly effect: 'Allow' | 'Deny'
  readonly actions: Selection
  readonly resources: Selection
  readonly conditions: readonly CheckedCondition[]
}

/** `negated`: everything but these (NotAction, NotResource). */
export interface Selection {
  readonly negated: boolean
  readonly values: readonly string[]
}

export interface CheckedCondition {
  readonly where: string
  readonly operator: string
  readonly key: string
  readonly values: readonly string[]
}

const VERSION_WITH_VARIABLES = '2012-10-17'
const VERSIONS = new Set([VERSION_WITH_VARIABLES, '2008-10-17'])
const STATEMENTS_MAX = 1000

/** @throws InvalidArgument naming what is wrong. `where` says whose document it is. */
export function checkDocument(document: unknown, where: string): readonly CheckedStatement[] {
  const fields = checkObject(document, where, ['Version', 'Id', 'Statement'])
  const version = fields['Version']
  if (version !== undefined && !(typeof version === 'string' && VERSIONS.has(version))) {
    throw policyError(where, `unknown Version ${JSON.stringify(version)}`)
  }
  checkText(fields['Id'], where, 'Id')
  const statement = fields['Statement']
  if (statement === undefined) throw policyError(where, 'no Statement')
  const statements = Array.isArray(statement) ? (statement as readonly unknown[]) : [statement]
  if (statements.length > STATEMENTS_MAX) throw policyError(where, `more than ${STATEMENTS_MAX} statements`)
  if (version !== VERSION_WITH_VARIABLES && JSON.stringify(statements).includes('${')) {
    throw policyError(where, `policy variables need Version ${VERSION_WITH_VARIABLES}`)
  }
  return statements.map((each, index) => checkStatement(each, `${where}, statement ${index + 1}`))
}

export function policyError(where: string, what: string): TidegateError {
  return new TidegateError('InvalidArgument', `${where}: ${what}`)
}

function checkStatement(statement: unknown, where: string): CheckedStatement {
  const fields = checkObject(statement, where, [
    'Sid',
    'Effect',
    'Action',
    'NotAction',
    'Resource',
    'NotResource',
    'Condition',
  ])
  checkText(fields['Sid'], where, 'Sid')
  const effect = fields['Effect']
  if (effect !== 'Allow' && effect !== 'Deny') {
    throw policyError(where, `Effect must be Allow or Deny, not ${JSON.stringify(effect)}`)
  }
  return {
    where,
    effect,
    actions: checkSelection(fields, 'Action', where),
    resources: checkSelection(fields, 'Resource', where),
    conditions: checkConditions(fields['Condition'], where),
  }
}

function checkSelection(fields: Record<string, unknown>, name: 'Action' | 'Resource', where: string): Selection {
  const plain = fields[name]
  const negated = fields[`Not${name}`]
  if ((plain === undefined) === (negated === undefined)) {
    throw policyError(where, `exactly one of ${name} and Not${name} must be given`)
  }
  const shown = plain === undefined ? `Not${name}` : name
  return { negated: plain === undefined, values: checkList(plain ?? negated, `${where}, ${shown}`, ['string']) }
}

function checkConditions(conditions: unknown, where: string): readonly CheckedCondition[] {
  if (conditions === undefined) return []
  const checked: CheckedCondition[] = []
  for (const [operator, tests] of Object.entries(checkObject(conditions, `${where}, Condition`))) {
    for (const [key, values] of Object.entries(checkObject(tests, `${where}, Condition ${operator}`))) {
      const place = `${where}, Condition ${operator} ${key}`
      checked.push({
        where: place,
        operator,
        key: key.toLowerCase(),
        values: checkList(values, place, ['string', 'number', 'boolean']),
      })
    }
  }
  return checked
}

function checkObject(value: unknown, where: string, names?: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw policyError(where, `must be an object, not ${JSON.stringify(value)}`)
  }
  for (const name of Object.keys(value)) {
    if (names !== undefined && !names.includes(name))
      throw policyError(where, `unknown element ${JSON.stringify(name)}`)
  }
  return value as Record<string, unknown>
}

function checkList(value: unknown, where: string, types: readonly string[]): readonly string[] {
  const values = Array.isArray(value) ? (value as readonly unknown[]) : [value]
  if (values.length === 0) throw policyError(where, 'the list is empty')
  return values.map((each) => {
    if (!types.includes(typeof each)) throw policyError(where, `${JSON.stringify(each)} is no ${types.join(' or ')}`)
    return String(each)
  })
}

function checkText(value: unknown, where: string, name: string): void {
  if (value !== undefined && typeof value !== 'string') throw policyError(where, `${name} must be a string`)
}
