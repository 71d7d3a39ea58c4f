/**
 * Refuses a Node that is too old, in words. src/main.ts asks before it imports anything else, so this file imports nothing
 * and uses no syntax that an old Node would stumble over.
 */

/** As in package.json, `engines`. */
const NODE_MAJOR_MIN = 24

/** What to say to the user, or undefined when this Node will do. `version` as in `process.versions.node`. */
export function nodeTooOld(version: string): string | undefined {
  const major = Number(version.split('.')[0])
  if (major >= NODE_MAJOR_MIN) return undefined
  return (
    'tidegate: this is Node ' +
    version +
    ', and Tidegate needs ' +
    NODE_MAJOR_MIN +
    ' or newer. In a checkout, "npm start" and "npm run tidegate" use the Node that "npm ci" installed.'
  )
}
