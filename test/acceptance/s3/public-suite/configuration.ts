/** The users that the suite wants, told to the gateway (YAML) and to the suite (INI) alike. */
import { randomBytes } from 'node:crypto'
import { stringify } from 'yaml'
import { randomCredentials, type GatewayCredentials } from '../../../support/gateway-process.ts'

interface SuiteUser extends GatewayCredentials {
  readonly name: string
  readonly displayName: string
  readonly id: string
  readonly email: string
}

export interface SuiteUsers {
  readonly main: SuiteUser
  readonly alt: SuiteUser
  readonly tenant: SuiteUser
  readonly iam: SuiteUser
  readonly iamRoot: SuiteUser
  readonly iamAltRoot: SuiteUser
}

/** Every user may do everything: what one may do to another's buckets is then decided by the rules under test. */
const ALLOW_S3 = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:*', Resource: '*' }] }

export function makeUsers(): SuiteUsers {
  const user = (name: string): SuiteUser => ({
    name,
    displayName: `suite ${name}`,
    id: randomBytes(32).toString('hex'),
    email: `${name}@example.com`,
    ...randomCredentials(),
  })
  return {
    main: user('main'),
    alt: user('alt'),
    tenant: user('tenant'),
    iam: user('iam'),
    iamRoot: user('iamroot'),
    iamAltRoot: user('iamaltroot'),
  }
}

export function gatewayConfiguration(users: SuiteUsers): string {
  return stringify({ users: Object.values(users).map((user: SuiteUser) => ({ ...user, policies: [ALLOW_S3] })) })
}

/** Section names and keys are the suite's (its s3tests.conf.SAMPLE). */
export function suiteConfiguration(users: SuiteUsers, endpoint: string): string {
  const url = new URL(endpoint)
  const account = (user: SuiteUser): Record<string, string> => ({
    display_name: user.displayName,
    user_id: user.id,
    email: user.email,
    access_key: user.accessKey,
    secret_key: user.secretKey,
  })
  const sections: Record<string, Record<string, string>> = {
    DEFAULT: {
      host: url.hostname,
      port: url.port,
      is_secure: url.protocol === 'https:' ? 'True' : 'False',
      ssl_verify: 'False',
    },
    fixtures: { 'bucket prefix': 'tidegate-{random}-' },
    's3 main': { ...account(users.main), api_name: '' },
    's3 alt': account(users.alt),
    's3 tenant': { ...account(users.tenant), tenant: 'suite' },
    iam: account(users.iam),
    'iam root': account(users.iamRoot),
    'iam alt root': account(users.iamAltRoot),
  }
  return Object.entries(sections)
    .map(([name, values]) =>
      [`[${name}]`, ...Object.entries(values).map(([key, value]) => `${key} = ${value}`), ''].join('\n'),
    )
    .join('\n')
}
