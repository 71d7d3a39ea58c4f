/**
 * Patterns of policies: `*` stands for any run of characters, slashes included, and `?` for one character. `${...}`
 * inserts a policy variable, whose own `*` and `?` are plain characters; `${*}`, `${?}` and `${$}` insert those signs.
 */
export type Pattern = readonly PatternToken[]
type PatternToken = { readonly literal: string } | 'any' | 'one'

export type TextMatcher = (text: string) => boolean

/** Values that a document may insert, by name in lower case. */
export type PolicyVariables = Readonly<Record<string, string>>

/** @throws Error-worthy text by way of `fail`, for a variable that is unknown or not closed */
export function parsePattern(source: string, variables: PolicyVariables, fail: (what: string) => Error): Pattern {
  const tokens: PatternToken[] = []
  const add = (text: string): void => {
    const last = tokens.at(-1)
    if (typeof last === 'object') tokens[tokens.length - 1] = { literal: last.literal + text }
    else tokens.push({ literal: text })
  }
  let at = 0
  while (at < source.length) {
    const character = source.charAt(at)
    if (source.startsWith('${', at)) {
      const end = source.indexOf('}', at)
      if (end === -1) throw fail(`${JSON.stringify(source)} holds a variable that is not closed`)
      add(variableValue(source.slice(at + 2, end), variables, fail))
      at = end + 1
      continue
    }
    if (character === '*') {
      if (tokens.at(-1) !== 'any') tokens.push('any')
    } else if (character === '?') tokens.push('one')
    else add(character)
    at += 1
  }
  return tokens
}

/** The text that a pattern without wildcards stands for; wildcards count as plain characters. */
export function expandVariables(source: string, variables: PolicyVariables, fail: (what: string) => Error): string {
  if (!source.includes('${')) return source
  return parsePattern(source, variables, fail)
    .map((token) => (typeof token === 'object' ? token.literal : token === 'any' ? '*' : '?'))
    .join('')
}

const SIGNS: PolicyVariables = { '*': '*', '?': '?', $: '$' }

function variableValue(name: string, variables: PolicyVariables, fail: (what: string) => Error): string {
  const key = name.toLowerCase()
  const value = Object.hasOwn(SIGNS, key) ? SIGNS[key] : Object.hasOwn(variables, key) ? variables[key] : undefined
  if (value === undefined) throw fail(`unknown policy variable \${${name}}`)
  return value
}

/** Compiled once; the usual patterns (all, one text, a prefix) cost one comparison. */
export function compilePattern(pattern: Pattern): TextMatcher {
  const [first, second] = pattern
  if (first === undefined) return (text) => text === ''
  if (pattern.length === 1 && first === 'any') return () => true
  if (typeof first === 'object') {
    const { literal } = first
    if (second === undefined) return (text) => text === literal
    if (second === 'any' && pattern.length === 2) return (text) => text.startsWith(literal)
  }
  return (text) => matchesTokens(pattern, text)
}

/** Goes back to the last `any` only, so the time is at most tokens times text, whatever the pattern. */
function matchesTokens(pattern: Pattern, text: string): boolean {
  let token = 0
  let at = 0
  let anyToken = -1
  let anyAt = 0
  while (at < text.length || token < pattern.length) {
    const current = pattern[token]
    if (current === 'any') {
      anyToken = token
      anyAt = at
      token += 1
      continue
    }
    const length = current === undefined ? 0 : matchLength(current, text, at)
    if (length > 0) {
      token += 1
      at += length
      continue
    }
    if (anyToken === -1 || anyAt >= text.length) return false
    anyAt += 1
    at = anyAt
    token = anyToken + 1
  }
  return true
}

/** How much of the text at `at` the token covers; 0 when it does not match. */
function matchLength(token: { readonly literal: string } | 'one', text: string, at: number): number {
  if (token !== 'one') return text.startsWith(token.literal, at) ? token.literal.length : 0
  const codePoint = text.codePointAt(at)
  return codePoint === undefined ? 0 : codePoint > 0xffff ? 2 : 1
}
