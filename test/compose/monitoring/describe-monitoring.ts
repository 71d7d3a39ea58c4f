/** The cluster of the compose files under the eyes of Prometheus: it finds all nodes, and no panel and no alert asks for what is not there. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { randomCredentials } from '../../support/gateway-process.ts'
import { REPOSITORY } from '../../support/run-command.ts'
import type { Engine } from '../engine/engine.ts'
import { buildImage } from '../engine/images.ts'
import { ComposeProject, type Container } from '../project.ts'
import { askable, expressions } from './expressions.ts'

const FILES = ['compose.cluster.yml', 'compose.monitoring.yml'].map((file) => join(REPOSITORY, 'docker', file))
const CONFIGURATION = join(REPOSITORY, 'docker', 'monitoring', 'prometheus.yml')
const PROMETHEUS = 'tidegate-test/prometheus'
/** Without Grafana, whose image cannot be made here. */
const SERVICES = ['n1', 'n2', 'n3', 'more', 'prometheus']
const PORTS = ['N1_S3', 'N1_HTTP', 'N2_S3', 'N2_HTTP', 'N3_S3', 'N3_HTTP', 'PROMETHEUS', 'GRAFANA']
const BUCKET = 'watched'
const OBJECTS = 20
const BODY_BYTES = 100_000

const UP_MS_MAX = 240_000
const SEEN_MS_MAX = 30_000
const CALL_MS_MAX = 10_000
const LOOK_EVERY_MS = 250

/** What has no series in a cluster where nothing fails, nothing is mounted and nothing attached; it need only parse. */
const WITHOUT_SERIES: Readonly<Record<string, string>> = {
  'tidegate: Errors by operation': 'nothing failed',
  'tidegate: Failed tries': 'nothing failed',
  TidegateFlushFails: 'nothing failed',
  'tidegate-nodes: Requests of the kernel': 'nothing is mounted',
  'tidegate-nodes: 99th percentile of READ, WRITE, LOOKUP, FSYNC': 'nothing is mounted',
  'tidegate-nodes: Errors': 'nothing is mounted',
  TidegateTransactionsUndone: 'of metadata on one node only',
  TidegateAttachedStuck: 'nothing is attached',
  TidegateAttachedConflicts: 'nothing is attached',
}

interface Series {
  readonly metric: Readonly<Record<string, string>>
  readonly value: readonly [at: number, value: string]
}

export function describeMonitoring(engine: () => Engine, image: string): void {
  describe('monitoring', () => {
    const directory = mkdtempSync(join(tmpdir(), 'tidegate-monitoring-'))
    const root = randomCredentials()
    const authorization = `Basic ${Buffer.from(`${root.accessKey}:${root.secretKey}`).toString('base64')}`
    let project: ComposeProject
    let prometheus: string

    beforeAll(async () => {
      await buildImage(engine(), { tag: PROMETHEUS, context: join(import.meta.dirname, 'image') })
      project = await bringUp(engine(), { image, directory, root })
      prometheus = await (await project.container('prometheus')).published(9090)
    }, UP_MS_MAX)
    afterAll(async () => {
      await project?.down()
      rmSync(directory, { recursive: true })
    }, UP_MS_MAX)

    async function instances(query: string): Promise<string[]> {
      return (await ask(prometheus, query)).map(({ metric }) => metric['instance'] ?? '').sort()
    }

    it('has rules and a configuration that Prometheus takes, and alerts that fire when they should', async () => {
      const configuration = await promtool(engine(), 'check', 'config', '/repository/docker/monitoring/prometheus.yml')
      expect(configuration).toContain('SUCCESS')
      await promtool(engine(), 'test', 'rules', '/repository/test/compose/monitoring/alerts.test.yml')
    })

    it('finds all nodes, also those beyond the three', async () => {
      const more = await (await project.container('more')).address()
      await expect
        .poll(async () => await instances('up{job="tidegate"} == 1'), { timeout: SEEN_MS_MAX, interval: LOOK_EVERY_MS })
        .toEqual([`more ${more}`, 'n1', 'n2', 'n3'])
    })

    it('reads metrics as a user who may do nothing else', async () => {
      const node = await project.container('n1')
      const password = (await node.exec(['cat', '/run/monitoring/monitor-password'])).stdout.trim()
      const http = `http://${await node.published(9001)}`
      const as = { headers: { authorization: `Basic ${Buffer.from(`monitor:${password}`).toString('base64')}` } }
      expect((await fetch(`${http}/metrics`, limited())).status).toBe(401)
      expect((await fetch(`${http}/metrics`, limited(as))).status).toBe(200)
      expect((await fetch(`${http}/kv/v1/${BUCKET}/key`, limited(as))).status).toBe(403)
      expect((await fetch(`${http}/kv/v1/${BUCKET}/key`, limited({ ...as, method: 'PUT', body: 'x' }))).status).toBe(
        403,
      )
    })

    it('has no panel and no alert that asks for what is not there', async () => {
      await load(await Promise.all(['n1', 'n2'].map((service) => project.container(service))), authorization)
      const untilMs = performance.now() + SEEN_MS_MAX
      for (;;) {
        const without = await withoutSeries(prometheus)
        const unexpected = without.filter(({ where }) => WITHOUT_SERIES[where] === undefined)
        if (unexpected.length === 0) break
        if (performance.now() > untilMs) expect(unexpected).toEqual([])
        await sleep(LOOK_EVERY_MS)
      }
      const known = new Set(expressions().map(({ where }) => where))
      expect(Object.keys(WITHOUT_SERIES).filter((where) => !known.has(where))).toEqual([])
    })

    it('shows a node that is gone as down', async () => {
      await (await project.container('n3')).kill()
      await expect
        .poll(async () => await instances('up{job="tidegate"} == 0'), { timeout: SEEN_MS_MAX, interval: LOOK_EVERY_MS })
        .toEqual(['n3'])
    })
  })
}

async function bringUp(
  engine: Engine,
  { image, directory, root }: { image: string; directory: string; root: { accessKey: string; secretKey: string } },
): Promise<ComposeProject> {
  const frequent = join(directory, 'prometheus.yml')
  writeFileSync(frequent, readFileSync(CONFIGURATION, 'utf8').replaceAll(/(interval|timeout): 1[05]s/g, '$1: 1s'))
  const mounted = { type: 'bind', source: frequent, target: '/etc/prometheus/prometheus.yml', read_only: true }
  return await ComposeProject.up(engine, {
    name: `monitoring-${process.pid}`,
    files: FILES,
    environment: {
      ...Object.fromEntries(PORTS.map((name) => [`${name}_PORT`, '0'])),
      TIDEGATE_IMAGE: image,
      PROMETHEUS_IMAGE: PROMETHEUS,
      TIDEGATE_ROOT_USER: root.accessKey,
      TIDEGATE_ROOT_PASSWORD: root.secretKey,
      TIDEGATE_BUCKETS: BUCKET,
      TIDEGATE_CACHE_MEMORY: '64MiB',
    },
    override: { services: { prometheus: { volumes: [mounted] }, more: { deploy: { replicas: 1 } } } },
    services: SERVICES,
    waitMs: UP_MS_MAX,
  })
}

async function promtool(engine: Engine, ...args: string[]): Promise<string> {
  const run = [
    'run',
    '--rm',
    '--network',
    'none',
    '-v',
    `${REPOSITORY}:/repository:ro`,
    '--entrypoint',
    '/bin/promtool',
  ]
  return await engine.docker([...run, PROMETHEUS, ...args])
}

/** Written at one node and read at the other, so that something passes between them. */
async function load([writer, reader]: readonly Container[], authorization: string): Promise<void> {
  const [to, from] = [await writer?.published(9001), await reader?.published(9001)]
  const headers = { authorization, 'content-type': 'application/octet-stream' }
  for (let index = 0; index < OBJECTS; index++) {
    const path = `/kv/v1/${BUCKET}/key-${index}`
    const body = Buffer.alloc(BODY_BYTES, index)
    expect((await fetch(`http://${to}${path}`, limited({ method: 'PUT', headers, body }))).ok).toBe(true)
    const answer = await fetch(`http://${from}${path}`, limited({ headers }))
    expect((await answer.arrayBuffer()).byteLength).toBe(BODY_BYTES)
  }
}

/** @throws Error with what Prometheus says of one that it does not understand */
async function withoutSeries(prometheus: string): Promise<{ where: string; asked: string }[]> {
  const without: { where: string; asked: string }[] = []
  for (const { where, expression } of expressions()) {
    const asked = askable(expression)
    if ((await ask(prometheus, asked)).length === 0) without.push({ where, asked })
  }
  return without
}

async function ask(prometheus: string, query: string): Promise<readonly Series[]> {
  const answer = await fetch(
    `http://${prometheus}/api/v1/query?${new URLSearchParams({ query }).toString()}`,
    limited(),
  )
  const said = (await answer.json()) as { status: string; data?: { result: readonly Series[] }; error?: string }
  if (said.data === undefined) throw new Error(`${query}: ${said.error ?? answer.status}`)
  return said.data.result
}

function limited(request: RequestInit = {}): RequestInit {
  return { ...request, signal: AbortSignal.timeout(CALL_MS_MAX) }
}
