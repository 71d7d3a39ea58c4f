/** Which methods there are at a path, so that a wrong one is answered 405 with Allow and not 404 (RFC 9110, 15.5.6). */
export class KnownPaths {
  readonly #routes: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = []

  /** `url` as a route declares it: `:name` stands for one part, `:name(pattern)` for what fits it, `::` for a colon, `*` for the rest. */
  add(url: string, methods: readonly string[]): void {
    const pattern = url.replaceAll(/::|:\w+(?:\([^)]*\))?|\*|[^:*\w/-]/g, (token) => {
      if (token === '::') return ':'
      if (token === '*') return '.*'
      if (!token.startsWith(':')) return `\\${token}`
      return token.endsWith(')') ? '[^/:]+' : '[^/]+'
    })
    this.#routes.push({ pattern: new RegExp(`^${pattern}$`, 's'), methods })
  }

  methodsAt(target: string): string[] {
    const query = target.indexOf('?')
    const path = query < 0 ? target : target.slice(0, query)
    const methods = new Set<string>()
    for (const route of this.#routes) if (route.pattern.test(path)) for (const name of route.methods) methods.add(name)
    return [...methods].toSorted()
  }
}
