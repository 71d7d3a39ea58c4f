/**
 * Secrets that other servers ship, or that examples on the net show. A gateway that takes one is open to whoever reads
 * the same pages, so they are refused, wherever they come from (SECURITY-LESSONS 5.2, 19).
 */
import { ConfigError } from './config-error.ts'
import type { Secret } from '../common/secret.ts'

const KNOWN_SECRETS: ReadonlySet<string> = new Set([
  'minioadmin',
  'minio123',
  'minio-secret-key',
  'miniostorage',
  'rustfsadmin',
  'tidegate',
  'tidegateadmin',
  'password',
  'password123',
  'changeme',
  'changeit',
  'adminadmin',
  'admin123',
  'rootroot',
  'root1234',
  'secretkey',
  'secret-key',
  '12345678',
  '123456789',
  'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
])

/** @throws ConfigError which names `option`, not the secret's text beyond that it is a known one */
export function refuseKnownSecret(secret: Secret, option: string): void {
  if (KNOWN_SECRETS.has(secret.reveal())) {
    throw new ConfigError(`${option} is a secret that is publicly known as somebody's default; choose another`)
  }
}
