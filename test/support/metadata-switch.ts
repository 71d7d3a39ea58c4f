/**
 * The switch by which tests of the gateway are run over etcd: with TIDEGATE_TEST_META=etcd every gateway that they start keeps its metadata in an etcd
 * of the test file's own, below a prefix that belongs to its data directory. So it finds its metadata again after a restart, and starts in no time.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EtcdCluster } from './etcd-member.ts'

const VARIABLE = 'TIDEGATE_TEST_META'
/** Beside these the gateway refuses `--meta`, or they say themselves where the metadata lie. */
const OWN_METADATA = /^--(?:meta|remote|cluster)(?:=|$)/

let cluster: Promise<EtcdCluster> | undefined
const prefixes = new Map<string, string>()

let isBrief = false

/** In a test file that imports another one, before it does so: the switch, for that file. Part of every run, so it is to be brief. */
export function keepMetadataInEtcd(): void {
  process.env[VARIABLE] = 'etcd'
  isBrief = true
}

/** How much a test does: each step over etcd waits for the disks of its members. */
export function amountOf(amounts: {
  readonly usual: number
  readonly overEtcd: number
  readonly brieflyOverEtcd?: number
}): number {
  if (!isOverEtcd()) return amounts.usual
  return isBrief ? (amounts.brieflyOverEtcd ?? amounts.overEtcd) : amounts.overEtcd
}

export function isOverEtcd(): boolean {
  const value = process.env[VARIABLE] ?? ''
  if (value !== '' && value !== 'etcd') throw new Error(`${VARIABLE}=${value} is not etcd`)
  return value === 'etcd'
}

/** What a gateway with that data directory is started with besides `flags`. */
export async function metadataFlags(data: string, flags: readonly string[]): Promise<string[]> {
  if (!isOverEtcd() || flags.some((flag) => OWN_METADATA.test(flag))) return []
  const { endpoint, prefix } = await metadataPlace(data)
  return ['--meta', `etcd://${new URL(endpoint).host}${prefix}`]
}

/** Where the metadata of the gateway with that data directory are. */
export async function metadataPlace(data: string): Promise<{ readonly endpoint: string; readonly prefix: string }> {
  cluster ??= startMember()
  const [endpoint = ''] = (await cluster).endpoints
  const prefix = prefixes.get(data) ?? `/t${prefixes.size}/`
  prefixes.set(data, prefix)
  return { endpoint, prefix }
}

function startMember(): Promise<EtcdCluster> {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-etcd-'))
  // It dies with this process (etcd-member.ts).
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
  return EtcdCluster.start({ directory, members: 1 })
}

// Workers of vitest are ended from outside. Registered before any hook of the file, so it comes after them all.
if (process.env['VITEST'] !== undefined) {
  const { afterAll } = await import('vitest')
  afterAll(async () => {
    await (await cluster)?.remove()
    cluster = undefined
  })
}
