/** Requests to the KV API as these tests send them, and answers read as what they are. */
import { send, type Answer } from '../s3/door-harness.ts'
import type { KvHarness } from './kv-harness.ts'

/** Posts JSON to `/kv/v1/{bucket}:{operation}`. */
export function post(
  kv: KvHarness,
  target: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return send(kv.port, `POST /kv/v1/${target}`, {
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })
}

export function jsonOf(answer: Answer): Record<string, never> {
  return JSON.parse(answer.text) as Record<string, never>
}

/** `400 InvalidArgument: what is wrong`. */
export function problemText(answer: Answer): string {
  const { code, detail } = jsonOf(answer) as { code?: string; detail?: string }
  return `${answer.status} ${code}: ${detail}`
}

export async function putValue(kv: KvHarness, key: string, value: string | Uint8Array): Promise<void> {
  const body = typeof value === 'string' ? { text: value } : { value: Buffer.from(value).toString('base64') }
  const answer = await post(kv, 'b:batch', { operations: [{ op: 'put', key, ...body }] })
  const { results } = jsonOf(answer) as unknown as { results: { status: number }[] }
  if (results[0]?.status !== 200) throw new Error(answer.text)
}
