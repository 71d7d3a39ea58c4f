import { unreachable } from '../common/assert.ts'
import { systemClock } from '../common/clock.ts'
import { TidegateError } from '../common/errors.ts'
import { builtinPolicy } from './policy/builtin.ts'
import { policyError } from './policy/document.ts'
import { compilePolicies } from './policy/evaluate.ts'
import { createTokenScopes } from './policy/token-scope.ts'
import { userPrincipal } from './users.ts'
import type { Clock } from '../common/clock.ts'
import type { AccessContext, AccessControl, AccessResource, Principal } from './access.ts'
import type { CompiledPolicies } from './policy/evaluate.ts'
import type { UserConfig } from './users.ts'

/**
 * The one function that decides for every door (C35). Root may do everything, a configured user what the policies say and
 * no Deny takes back, anybody else nothing. Where a token speaks for one of them, it may do what its scope covers *and* he
 * may do now: his policies are asked as ever, so a token never reaches further than who made it (SECURITY-LESSONS 5.2, 24).
 *
 * @throws InvalidArgument when a user's policies hold anything that is not known (C36)
 */
export function createAccessControl(users: readonly UserConfig[], clock: Clock = systemClock): AccessControl {
  const known = new Map<string, { readonly policies: CompiledPolicies; readonly name: string }>()
  for (const user of users) {
    known.set(userPrincipal(user).id, { policies: compileUser(user), name: user.name })
  }

  const userMay = (principal: Principal, action: string, asked: Asked): boolean => {
    const user = known.get(principal.id)
    if (user === undefined) return false
    return user.policies.allows(action, resourceText(asked.resource), () => {
      const nowMs = clock.nowMs()
      return {
        ...asked.context,
        'aws:username': user.name,
        'aws:userid': principal.id,
        'aws:currenttime': new Date(nowMs).toISOString(),
        'aws:epochtime': String(Math.floor(nowMs / 1000)),
      }
    })
  }

  const scopes = createTokenScopes()
  return {
    authorize(principal, action, resource, context) {
      const { token } = principal
      if (token !== undefined && !scopes.allow(token, action, resource.bucket)) {
        throw outOfScope(principal, action, resource)
      }
      switch (principal.kind) {
        case 'root':
          return
        case 'anonymous':
          throw denied(principal, action, resource)
        case 'user':
          if (!userMay(principal, action, { resource, context })) throw denied(principal, action, resource)
          return
        default:
          unreachable(principal.kind, 'kind of principal')
      }
    },
  }
}

interface Asked {
  readonly resource: AccessResource
  readonly context: AccessContext
}

function compileUser(user: UserConfig): CompiledPolicies {
  const documents = user.policies.map((policy, index) => {
    const where = `policy ${index + 1} of the user ${JSON.stringify(user.name)}`
    if (typeof policy !== 'string') return { document: policy, where }
    const document = builtinPolicy(policy)
    if (document === undefined) throw policyError(where, `there is no policy named ${JSON.stringify(policy)}`)
    return { document, where }
  })
  return compilePolicies(documents, { 'aws:username': user.name, 'aws:userid': userPrincipal(user).id })
}

/** What follows `arn:aws:s3:::`. */
function resourceText({ bucket, key }: AccessResource): string {
  if (bucket === undefined) return ''
  return key === undefined ? bucket : `${bucket}/${key}`
}

function denied(principal: Principal, action: string, resource: AccessResource): TidegateError {
  return refusal(principal.displayName, action, resource)
}

function outOfScope(principal: Principal, action: string, resource: AccessResource): TidegateError {
  return refusal(`the token ${principal.token?.id ?? ''} of ${principal.displayName}`, action, resource)
}

function refusal(who: string, action: string, resource: AccessResource): TidegateError {
  const on = resource.bucket === undefined ? '' : ` on ${JSON.stringify(resourceText(resource))}`
  return new TidegateError('AccessDenied', `${who} is not authorized to perform ${action}${on}`)
}
