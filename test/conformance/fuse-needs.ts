import { existsSync } from 'node:fs'

/** Why this machine cannot mount, or undefined. With CI=true everything runs, and what cannot fails. */
export function unmetNeeds(): string | undefined {
  if (process.env['CI'] === 'true') return undefined
  if (!existsSync('/dev/fuse'))
    return 'there is no /dev/fuse here (kernel module "fuse"; a container needs --device /dev/fuse)'
  if (process.geteuid?.() !== 0) return 'mounting with both twins needs root'
  return undefined
}
