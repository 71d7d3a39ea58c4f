/**
 * Everything in the ledger, read from every node while nobody writes: through S3, through the mount, and in listings by pages. What has an unknown outcome may
 * still take effect meanwhile, so nothing that is found settles anything.
 */
import { ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3'
import { setTimeout as sleep } from 'node:timers/promises'
import { must } from '../../../src/common/assert.ts'
import { contentOf } from '../../cluster/node-loss/rounds.ts'
import { BUCKET } from '../../support/three-gateways.ts'
import type { BrokenPromise, Content, Ledger } from '../../write-behind/load/ledger.ts'
import type { Container } from '../project.ts'
import { runAgent } from './mount-load.ts'

/** Below these lies what the ledger knows. */
const PREFIXES = ['load/', 'mounts/'] as const
const READERS = 4
/** So that a listing has many pages. */
const PAGE_KEYS = 37
const LIST_MS_MAX = 60_000
const LIST_CALL_MS_MAX = 20_000
const SURVEY_MS_MAX = 120_000
const SURVEYS_MAX = 3
const SHOWN_MAX = 10
const UNREADABLE_MAX = READERS

export interface ComparisonResult {
  /** How often a key was held against the ledger. */
  compared: number
  listed: number
  readonly lost: string[]
  readonly wrongListings: string[]
  /** What could not be looked at. */
  readonly unexpected: string[]
}

interface ComparedNode {
  readonly container: Container
  readonly client: S3Client
}

export async function compareAll(nodes: readonly ComparedNode[], ledger: Ledger): Promise<ComparisonResult> {
  const result: ComparisonResult = { compared: 0, listed: 0, lost: [], wrongListings: [], unexpected: [] }
  await Promise.all(
    nodes.map(async (node, index) => {
      await compareObjects(node, { index, ledger, result })
      await compareListing(node, { index, ledger, result })
    }),
  )
  // One after the other: each reads everything.
  for (const [index, node] of nodes.entries()) await compareMount(node, { index, ledger, result })
  return result
}

interface Comparing {
  readonly index: number
  readonly ledger: Ledger
  readonly result: ComparisonResult
}

async function compareObjects({ client }: ComparedNode, { index, ledger, result }: Comparing): Promise<void> {
  const waiting = ledger.keys
  let unreadable = 0
  const reader = async (): Promise<void> => {
    for (let key = waiting.pop(); key !== undefined; key = waiting.pop()) {
      const found = await contentOf(client, key, index).catch((error: unknown) => error as BrokenPromise)
      result.compared++
      if (found instanceof Error) {
        result.lost.push(found.message)
        // Each is waited for long.
        if (++unreadable >= UNREADABLE_MAX) return
      } else check(ledger, { key, content: found, by: `node ${index}` }, result.lost)
    }
  }
  await Promise.all(Array.from({ length: READERS }, reader))
}

interface Found {
  readonly key: string
  readonly content: Content
  readonly by: string
}

function check(ledger: Ledger, { key, content, by }: Found, lost: string[]): void {
  const allowed = ledger.allowed(key, 'journal')
  if (allowed.includes(content)) return
  const wanted = allowed.map((one) => one ?? 'nothing').join(' or ')
  lost.push(`${key} holds ${content ?? 'nothing'} by ${by}, and it may hold ${wanted}`)
}

async function compareMount({ container }: ComparedNode, { index, ledger, result }: Comparing): Promise<void> {
  const by = `the mount of node ${index}`
  const contents = await surveyOf(container)
  if (typeof contents === 'string') return void result.unexpected.push(`${by}: ${contents}`)
  for (const key of ledger.keys) {
    result.compared++
    check(ledger, { key, content: contents[key] ?? undefined, by }, result.lost)
  }
  const known = new Set(ledger.keys)
  for (const name of Object.keys(contents))
    if (!known.has(name)) result.wrongListings.push(`${by} shows ${name}, which nobody wrote`)
}

/** In words, what the last attempt failed with. */
async function surveyOf(container: Container): Promise<Readonly<Record<string, string | null>> | string> {
  let trouble = ''
  for (let attempt = 0; attempt < SURVEYS_MAX; attempt++) {
    const operations = PREFIXES.map((prefix) => ({ kind: 'survey' as const, name: prefix.slice(0, -1) }))
    const plan = { bucket: BUCKET, operations, pauseMs: 0, withinMs: SURVEY_MS_MAX }
    const reports = await runAgent(container, plan)
    const troubles = reports.flatMap((report) => report.trouble ?? [])
    if (reports.length === PREFIXES.length && troubles.length === 0)
      return Object.assign({}, ...reports.map(({ contents }) => contents)) as Record<string, string | null>
    trouble = reports.length < PREFIXES.length ? 'did not end' : troubles.join(', ')
    await sleep(1_000)
  }
  return trouble
}

async function compareListing({ client }: ComparedNode, { index, ledger, result }: Comparing): Promise<void> {
  const wrong = (what: string): void => void result.wrongListings.push(`node ${index}: ${what}`)
  for (const prefix of PREFIXES) {
    let listed: readonly Listed[]
    try {
      listed = await list(client, prefix)
    } catch (error) {
      result.unexpected.push(`node ${index} does not list ${prefix}: ${String(error)}`)
      continue
    }
    result.listed += listed.length
    const sizes = new Map(listed.map(({ key, size }) => [key, size]))
    const keys = listed.map(({ key }) => key)
    if (sizes.size !== listed.length) wrong('a key is listed twice')
    if (keys.join('\n') !== keys.toSorted().join('\n')) wrong('keys are not in order')
    const known = new Set(ledger.keys)
    for (const key of keys) if (!known.has(key)) wrong(`${key} is listed, which nobody wrote`)
    for (const key of ledger.keys.filter((name) => name.startsWith(prefix))) {
      const size = sizes.get(key)
      const allowed = ledger.allowed(key, 'journal')
      if (!allowed.some((content) => sizeOf(content) === size))
        wrong(`${key} is listed with ${size ?? 'no'} bytes, and may have ${allowed.map(sizeOf).join(' or ')}`)
    }
  }
}

interface Listed {
  readonly key: string
  readonly size: number
}

async function list(client: S3Client, Prefix: string): Promise<Listed[]> {
  const untilMs = performance.now() + LIST_MS_MAX
  for (;;) {
    try {
      return await listPages(client, Prefix)
    } catch (error) {
      if (performance.now() > untilMs) throw error
    }
    await sleep(200)
  }
}

async function listPages(client: S3Client, Prefix: string): Promise<Listed[]> {
  const listed: Listed[] = []
  for (let token: string | undefined, more = true; more; more = token !== undefined) {
    const page = await client.send(
      new ListObjectsV2Command({ Bucket: BUCKET, Prefix, MaxKeys: PAGE_KEYS, ContinuationToken: token }),
      { abortSignal: AbortSignal.timeout(LIST_CALL_MS_MAX) },
    )
    // The mount makes directories, which show as keys with a slash at the end.
    for (const { Key = '', Size = 0 } of page.Contents ?? [])
      if (!Key.endsWith('/')) listed.push({ key: Key, size: Size })
    token = page.NextContinuationToken
  }
  return listed
}

/** As the digest says. */
function sizeOf(content: Content): number | undefined {
  return content === undefined ? undefined : Number(must(content.split(' ')[0], 'a size'))
}

/** Few of them say enough. */
export function shown(troubles: readonly string[]): string {
  const more = troubles.length - SHOWN_MAX
  return [...troubles.slice(0, SHOWN_MAX), ...(more > 0 ? [`and ${more} more`] : [])].join('\n    ')
}
