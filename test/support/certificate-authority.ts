import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface SignedCertificate {
  readonly certificate: string
  readonly key: string
}

const CURVE = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1']

/** An authority of a test's own, and certificates for the loopback address that it signs, for servers and clients alike. Made by `openssl`. */
export class CertificateAuthority {
  readonly certificate: string
  readonly #directory: string
  readonly #key: string

  constructor(directory: string) {
    this.#directory = directory
    this.certificate = join(directory, 'authority.pem')
    this.#key = join(directory, 'authority-key.pem')
    openssl(['req', '-x509', ...CURVE, '-subj', '/CN=authority', '-keyout', this.#key, '-out', this.certificate])
  }

  /** `commonName` is also the user's name where a server logs in by certificate. Signing again replaces the files. */
  sign(commonName: string): SignedCertificate {
    const at = (ending: string): string => join(this.#directory, `${commonName}.${ending}`)
    writeFileSync(at('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n')
    openssl(['req', '-new', ...CURVE, '-subj', `/CN=${commonName}`, '-keyout', at('key'), '-out', at('request')])
    const by = ['-CA', this.certificate, '-CAkey', this.#key, '-CAcreateserial', '-days', '1']
    openssl(['x509', '-req', '-in', at('request'), ...by, '-extfile', at('names'), '-out', at('pem')])
    return { certificate: at('pem'), key: at('key') }
  }
}

function openssl(args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe' })
}
