/** Whether two sets of attributes say the same, whatever the order of their fields. */
import type { ObjectAttributes } from '../../../common/model.ts'

export function areSameAttributes(one: ObjectAttributes, other: ObjectAttributes): boolean {
  return one === other || JSON.stringify(canonical(one)) === JSON.stringify(canonical(other))
}

function canonical({ headers, userMetadata, tags, storageClass, websiteRedirect }: ObjectAttributes): unknown {
  return [sorted(headers), sorted(userMetadata), sorted(tags), storageClass, websiteRedirect]
}

function sorted(fields: object): unknown {
  return Object.entries(fields).sort(([one], [other]) => (one < other ? -1 : 1))
}
