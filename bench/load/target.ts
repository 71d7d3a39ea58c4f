/** What a request is sent to, as far as signed and other requests have it in common. */
import type { LoadRequest } from './job.ts'

/** What `@` in a path counts up to. */
const GROUPS = 64

export function sendsBody(method: LoadRequest['method']): boolean {
  return method === 'PUT' || method === 'POST'
}

/** Path and query of request `index`, encoded as signatures want it. */
export function targetOf(request: LoadRequest, index: number): { path: string; query: string } {
  const number = String(index).padStart(7, '0')
  const group = String(index % GROUPS).padStart(2, '0')
  const encode = (text: string): string =>
    encodeURIComponent(text.replaceAll('#', number)).replaceAll(
      /[!'()*]/g,
      (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
    )
  const pairs = Object.entries(request.query ?? {}).map(([name, value]) => `${encode(name)}=${encode(value)}`)
  return { path: request.path.replaceAll('#', number).replaceAll('@', group), query: pairs.sort().join('&') }
}
