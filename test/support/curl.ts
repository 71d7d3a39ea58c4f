/** The real curl, as a user of the HTTP API runs it. What it reports of the answer comes beside the body, by --write-out. */
import { spawn } from 'node:child_process'
import type { GatewayCredentials } from './gateway-process.ts'

const ENDS_S_MAX = 120
const HEADER_JSON = '%{stderr}%{http_code} %{header_json}'

export interface CurlAnswer {
  readonly status: number
  /** Names in lower case; of a repeated one the last counts. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  readonly text: string
  /** Exit code: 0 whatever the status. */
  readonly exitCode: number
}

/** `args` end with the URL. `stdin` is for `--data-binary @-` and `-T -`. Rejects only when there is no curl. */
export function curl(args: readonly string[], stdin?: Uint8Array | string): Promise<CurlAnswer> {
  const fixed = ['-sS', '--path-as-is', '--max-time', String(ENDS_S_MAX), '--write-out', HEADER_JSON]
  return new Promise((resolve, reject) => {
    const child = spawn('curl', [...fixed, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
    const body: Buffer[] = []
    let report = ''
    child.stdout.on('data', (chunk: Buffer) => body.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => (report += chunk.toString()))
    // curl need not read it all.
    child.stdin.on('error', () => undefined)
    child.stdin.end(stdin)
    child.on('error', reject)
    child.on('close', (code) => resolve(answerFrom(report, Buffer.concat(body), code ?? 1)))
  })
}

function answerFrom(report: string, body: Buffer, exitCode: number): CurlAnswer {
  const found = /(?<status>\d{3}) (?<headers>\{[^]*\})\s*$/.exec(report)?.groups
  if (found === undefined) throw new Error(`curl said: ${report}`)
  const listed = JSON.parse(found['headers'] ?? '') as Record<string, string[]>
  const headers = Object.fromEntries(Object.entries(listed).map(([name, values]) => [name, values.at(-1) ?? '']))
  return { status: Number(found['status']), headers, body, text: body.toString(), exitCode }
}

/** As an access key and its secret in the clear. */
export function basic({ accessKey, secretKey }: GatewayCredentials): string[] {
  return ['--user', `${accessKey}:${secretKey}`]
}

/** curl before 8 does not send x-amz-content-sha256 by itself, which S3 wants. */
export function sigv4(credentials: GatewayCredentials): string[] {
  const unsignedPayload = ['-H', 'x-amz-content-sha256: UNSIGNED-PAYLOAD']
  return ['--aws-sigv4', 'aws:amz:us-east-1:s3', ...unsignedPayload, ...basic(credentials)]
}

export function bearer(token: string): string[] {
  return ['-H', `Authorization: Bearer ${token}`]
}
