import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

/** A self-signed certificate for the loopback address, valid for a day, made by the `openssl` command. */
export function makeCertificate(directory: string): { certificate: string; key: string } {
  const certificate = join(directory, 'certificate.pem')
  const key = join(directory, 'key.pem')
  const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1'
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
  const output = ['-keyout', key, '-out', certificate]
  execFileSync(
    'openssl',
    ['req', '-x509', '-nodes', '-days', '1', '-subj', '/CN=localhost', '-addext', names, ...curve, ...output],
    { stdio: 'pipe' },
  )
  return { certificate, key }
}
