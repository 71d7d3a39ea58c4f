import { runCli } from '../../src/cli/run.ts'
import { serve } from '../../src/serve.ts'
process.exitCode = await runCli({ argv: process.argv.slice(2), env: process.env, stdout: process.stdout, stderr: process.stderr,
  serve: (config) => serve(config, { decorate: (parts) => { const r = parts.remote!; const inner = r.store
    const store = new Proxy(inner, { get(t, n) { if (n === 'put') return (name: string, b: Uint8Array, c: never) => name.includes('-base-') ? new Promise(() => {}) : inner.put(name, b, c); const v = Reflect.get(t, n, t); return typeof v === 'function' ? v.bind(t) : v } })
    return { ...parts, remote: { ...r, store } } } }) })
