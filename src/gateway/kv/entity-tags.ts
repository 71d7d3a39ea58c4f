/**
 * Conditions as operations in a body name them, in the words of the headers If-Match and If-None-Match: `*`, or a list of ETags and
 * revisions (`"r42"`). An ETag is hex, so none looks like a revision.
 */
import { NO_CONDITIONS } from '../../common/conditions.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Conditions } from '../../common/model.ts'

const TAG = /^(?:W\/)?"([^"]*)"$/
const REVISION = /^r(\d{1,16})$/

export interface ConditionTexts {
  readonly ifMatch: string | undefined
  readonly ifNoneMatch: string | undefined
}

/** @throws InvalidArgument */
export function conditionsOf({ ifMatch, ifNoneMatch }: ConditionTexts): Conditions {
  if (ifMatch === undefined && ifNoneMatch === undefined) return NO_CONDITIONS
  const match = ifMatch === undefined ? undefined : entityTags('ifMatch', ifMatch)
  const noneMatch = ifNoneMatch === undefined ? undefined : entityTags('ifNoneMatch', ifNoneMatch)
  return {
    ...(match && { ifMatch: match.etags, ifMatchRevisions: match.revisions }),
    ...(noneMatch && { ifNoneMatch: noneMatch.etags, ifNoneMatchRevisions: noneMatch.revisions }),
  }
}



function entityTags(name: string, text: string): { etags: string[]; revisions: number[] } {
  const [etags, revisions]: [string[], number[]] = [[], []]
  for (const item of text.split(',').map((each) => each.trim())) {
    const tag = TAG.exec(item)?.[1] ?? (item.includes('"') ? '' : item)
    const revision = REVISION.exec(tag)?.[1]
    if (tag === '') throw new TidegateError('InvalidArgument', `${name} ${JSON.stringify(text)} names no ETag or revision`)
    if (revision === undefined) etags.push(tag)
    else revisions.push(Number(revision))
  }
  return { etags, revisions }
}
