import { TidegateError } from '../common/errors.ts'
import { ConfigError } from '../config/config-error.ts'
import type { Config } from '../config/parse.ts'
import type { AccessControl } from '../store/access.ts'
import { createAccessControl } from '../store/policy.ts'
import type { UserConfig } from '../store/users.ts'

/**
 * The configured users and what their policies allow; every policy is compiled here, so that one that cannot be acted on is
 * refused before anything starts (C36). @throws ConfigError
 */
export function configuredAccess(config: Config): { users: readonly UserConfig[]; access: AccessControl } {
  const users = config.users.map((user) => ({
    ...user,
    secretKey: user.secretKey.reveal(),
    policies: user.policies as UserConfig['policies'],
  }))
  try {
    return { users, access: createAccessControl(users) }
  } catch (error) {
    if (error instanceof TidegateError) throw new ConfigError(`users: ${error.message}`, { cause: error })
    throw error
  }
}
