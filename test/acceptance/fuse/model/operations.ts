/** The system calls of the model test, as they travel to executor.py. Bytes are base64; paths are relative to the bucket. */
export type OpenFlag = 'RDONLY' | 'RDWR' | 'WRONLY' | 'CREAT' | 'EXCL' | 'TRUNC' | 'APPEND'

export type Operation =
  | { readonly do: 'open'; readonly path: string; readonly flags: readonly OpenFlag[]; readonly handle: number }
  | { readonly do: 'close' | 'sync' | 'lock'; readonly handle: number }
  | { readonly do: 'read'; readonly handle: number; readonly offset: number; readonly length: number }
  | { readonly do: 'write'; readonly handle: number; readonly offset: number; readonly data: string }
  | { readonly do: 'append'; readonly handle: number; readonly data: string }
  | { readonly do: 'truncate'; readonly path: string; readonly size: number }
  | { readonly do: 'truncate'; readonly handle: number; readonly size: number }
  | { readonly do: 'punch' | 'allocate'; readonly handle: number; readonly offset: number; readonly length: number }
  | {
      readonly do: 'copy'
      readonly handle: number
      readonly offset: number
      readonly target: number
      readonly targetOffset: number
      readonly length: number
    }
  | { readonly do: 'seek'; readonly handle: number; readonly offset: number; readonly what: 'data' | 'hole' }
  | { readonly do: 'map'; readonly handle: number; readonly mapping: number; readonly length: number }
  | { readonly do: 'mapRead'; readonly mapping: number; readonly offset: number; readonly length: number }
  | { readonly do: 'mapWrite'; readonly mapping: number; readonly offset: number; readonly data: string }
  | { readonly do: 'mapSync' | 'unmap'; readonly mapping: number }
  | {
      readonly do: 'makeDirectory' | 'removeDirectory' | 'unlink' | 'readLink' | 'list' | 'attributes' | 'publish'
      readonly path: string
    }
  | { readonly do: 'link'; readonly path: string; readonly to: string }
  | { readonly do: 'symlink'; readonly path: string; readonly target: string }
  | {
      readonly do: 'rename'
      readonly path: string
      readonly to: string
      readonly mode: 'replace' | 'no-replace' | 'exchange'
    }
  | { readonly do: 'status'; readonly path: string }
  | { readonly do: 'status'; readonly handle: number }
  | {
      readonly do: 'setAttribute'
      readonly path: string
      readonly name: string
      readonly data: string
      readonly mode: 'set' | 'create' | 'replace'
    }
  | { readonly do: 'attribute' | 'removeAttribute'; readonly path: string; readonly name: string }
  | { readonly do: 'dropCaches' }

/** The value that the call gave (null for none), or the name of its errno. */
export type Outcome = { readonly value: unknown } | { readonly error: string }

/** An operation in words, without its bytes. */
export function inWords(operation: Operation): string {
  const { do: name, ...rest } = operation
  const words = Object.entries(rest as Record<string, unknown>).map(([key, value]) => {
    if (key === 'data') return `${Buffer.from(value as string, 'base64').length} bytes`
    return `${key} ${Array.isArray(value) ? value.join('|') : String(value)}`
  })
  return `${name}(${words.join(', ')})`
}
