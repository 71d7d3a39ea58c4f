/** docker/compose.yml, as people use it: with the `aws` command from outside, and the commands of the image inside. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { REPOSITORY } from '../support/run-command.ts'
import type { Engine } from './engine/engine.ts'
import { ComposeProject, type Container } from './project.ts'

const AWS_MS_MAX = 60_000
const UP_MS_MAX = 180_000
/** An idle node. The engine would wait for 60 s. */
const STOP_MS_MAX = 20_000
const USER = '10001'

export function describeSingleNode(engine: () => Engine, image: string): void {
  describe('one node by docker/compose.yml', () => {
    const directory = mkdtempSync(join(tmpdir(), 'tidegate-single-node-'))
    let project: ComposeProject
    let node: Container
    let credentials: { accessKeyId: string; secretAccessKey: string }

    beforeAll(async () => {
      project = await ComposeProject.up(engine(), {
        name: `single-${process.pid}`,
        files: [join(REPOSITORY, 'docker', 'compose.yml')],
        environment: {
          TIDEGATE_IMAGE: image,
          TIDEGATE_BUCKETS: 'photos',
          TIDEGATE_S3_PORT: '0',
          TIDEGATE_HTTP_PORT: '0',
        },
        waitMs: UP_MS_MAX,
      })
      node = await project.container('tidegate')
      const { stdout } = await node.exec(['tidegate', 'credentials', '--json'])
      credentials = JSON.parse(stdout) as typeof credentials
    }, UP_MS_MAX)
    afterAll(async () => {
      await project?.down()
      rmSync(directory, { recursive: true })
    }, UP_MS_MAX)

    async function aws(...args: string[]): Promise<string> {
      const endpoint = `http://${await node.published(9000)}`
      const env = {
        ...process.env,
        AWS_ACCESS_KEY_ID: credentials.accessKeyId,
        AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
        AWS_DEFAULT_REGION: 'us-east-1',
        AWS_CA_BUNDLE: '',
      }
      const command = ['--endpoint-url', endpoint, 's3', ...args]
      return (await promisify(execFile)('aws', command, { env, timeout: AWS_MS_MAX })).stdout
    }

    it('serves its buckets by S3 and KV, with credentials that it made', async () => {
      const [given, got] = [join(directory, 'given'), join(directory, 'got')]
      writeFileSync(given, randomBytes(9_000_000))
      await aws('cp', '--quiet', given, 's3://photos/2026/one')
      await aws('cp', '--quiet', 's3://photos/2026/one', got)
      expect(readFileSync(got).equals(readFileSync(given))).toBe(true)
      const basic = Buffer.from(`${credentials.accessKeyId}:${credentials.secretAccessKey}`).toString('base64')
      const response = await fetch(`http://${await node.published(9001)}/kv/v1/photos/2026/one`, {
        headers: { authorization: `Basic ${basic}` },
      })
      expect(Buffer.from(await response.arrayBuffer()).equals(readFileSync(given))).toBe(true)
    })

    it('is nobody in particular in its container, which is read-only', async () => {
      expect((await node.exec(['id', '-u'])).stdout.trim()).toBe(USER)
      const attempt = await node.exec(['sh', '-c', 'echo > /opt/tidegate/x'])
      expect(attempt.code).not.toBe(0)
      expect(attempt.stderr).toContain('Read-only')
      expect((await node.exec(['grep', 'CapEff', '/proc/1/status'])).stdout).toMatch(/\b0{16}\b/)
    })

    it('shows no secret in its log', async () => {
      const logs = await node.logs()
      expect(logs).toContain('the gateway serves')
      expect(logs).not.toContain(credentials.secretAccessKey)
    })

    it('ends by itself when it is stopped, and has everything when it comes back', async () => {
      const begunMs = performance.now()
      await node.stop()
      expect(await node.state()).toMatchObject({ status: 'exited', exitCode: 0 })
      expect(performance.now() - begunMs).toBeLessThan(STOP_MS_MAX)
      await project.compose(['up', '-d', '--no-build', '--wait'], { timeoutMs: UP_MS_MAX })
      expect(await aws('ls', 's3://photos/2026/')).toContain('9000000 one')
      expect((await node.state()).health).toBe('healthy')
    })

    it('loses nothing when it is killed', async () => {
      await aws('cp', '--quiet', join(directory, 'given'), 's3://photos/2026/two')
      await node.kill()
      await project.compose(['up', '-d', '--no-build', '--wait'], { timeoutMs: UP_MS_MAX })
      await aws('cp', '--quiet', 's3://photos/2026/two', join(directory, 'got'))
      expect(readFileSync(join(directory, 'got')).equals(readFileSync(join(directory, 'given')))).toBe(true)
    })
  })
}
