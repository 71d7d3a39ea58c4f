import { createHash } from 'node:crypto'
import { TidegateError } from '../common/errors.ts'
import type { Principal, UserDirectory } from './access.ts'
import type { PolicyDocument } from './policy/document.ts'

/** A user of the configuration file. */
export interface UserConfig {
  readonly name: string
  readonly displayName?: string | undefined
  /** Canonical id, as S3 shows owners. Default: 64 hex digits made of the name, so that it outlives restarts. */
  readonly id?: string | undefined
  readonly email?: string | undefined
  readonly accessKey: string
  readonly secretKey: string
  /** Names of built-in policies, or policy documents. None: the user may do nothing. */
  readonly policies: readonly (string | PolicyDocument)[]
}

export interface RootConfig {
  readonly accessKey: string
  readonly secretKey: string
  readonly id?: string | undefined
  readonly displayName?: string | undefined
}

/** @throws InvalidArgument naming the value that is empty or given twice (never a secret) */
export function createUserDirectory(config: {
  readonly root: RootConfig
  readonly users: readonly UserConfig[]
}): UserDirectory {
  const byAccessKey = new Map<string, { readonly principal: Principal; readonly secretKey: string }>()
  const ids = new Set<string>(['anonymous'])
  const add = (principal: Principal, keys: { readonly accessKey: string; readonly secretKey: string }): void => {
    const { accessKey, secretKey } = keys
    refuseIf(principal.id === '', `the user ${shown(principal.displayName)} has an empty id`)
    refuseIf(accessKey === '', `the user ${shown(principal.displayName)} has an empty access key`)
    refuseIf(/[\s,=]/.test(accessKey), `the access key ${shown(accessKey)} holds a blank, a comma or an equals sign`)
    refuseIf(secretKey === '', `the user ${shown(principal.displayName)} has an empty secret key`)
    refuseIf(byAccessKey.has(accessKey), `the access key ${shown(accessKey)} is given twice`)
    refuseIf(ids.has(principal.id), `the user id ${shown(principal.id)} is given twice`)
    ids.add(principal.id)
    byAccessKey.set(accessKey, { principal, secretKey })
  }

  const { root } = config
  add({ id: root.id ?? 'root', displayName: root.displayName ?? 'root', kind: 'root' }, root)
  for (const user of config.users) add(userPrincipal(user), user)
  return { findByAccessKey: (accessKey) => byAccessKey.get(accessKey) }
}

/** What a configured user is called from here on. */
export function userPrincipal(user: UserConfig): Principal {
  refuseIf(user.name === '', 'a user has an empty name')
  return { id: user.id ?? stableUserId(user.name), displayName: user.displayName ?? user.name, kind: 'user' }
}

/** 64 hex digits, in the form of S3's canonical user ids. */
export function stableUserId(name: string): string {
  return createHash('sha256').update(`tidegate user ${name}`).digest('hex')
}

function refuseIf(condition: boolean, message: string): void {
  if (condition) throw new TidegateError('InvalidArgument', message)
}

function shown(value: string): string {
  return JSON.stringify(value)
}
