/** Starts an engine with a network, says so, and waits to be killed. */
import { OwnEngine } from './own-engine.ts'

const engine = await OwnEngine.start()
const { code, stderr } = await engine.run(['network', 'create', 'left-behind'], 20_000)
process.stdout.write(code === 0 ? 'ready\n' : stderr)
// It is killed long before.
setTimeout(() => process.exit(1), 60_000)
