/** Starts an engine with a network, says which bridge that has, and waits to be killed. */
import { OwnEngine } from './own-engine.ts'

const BRIDGE_ID_CHARS = 12
const WAIT_MS_MAX = 120_000

const engine = await OwnEngine.start()
const { stdout, stderr } = await engine.run(['network', 'create', 'left-behind'], 30_000)
process.stdout.write(stdout === '' ? stderr : `br-${stdout.slice(0, BRIDGE_ID_CHARS)}\n`)
// It is killed long before.
setTimeout(() => process.exit(1), WAIT_MS_MAX)
