/** That the harness itself does what tests rely on, shown on one small service. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ComposeProject } from '../project.ts'
import type { Engine } from './engine.ts'

const BASE = `node:${process.version.slice(1).split('.')[0]}-trixie-slim`
const PORT = 8000
const ANSWER_MS_MAX = 20_000
const SERVER = `
  process.on('SIGTERM', () => process.exit(7))
  require('node:http').createServer((_, response) => response.end(process.env.GREETING)).listen(${PORT}, () => console.log('listening'))`
const ASKS = `fetch('http://127.0.0.1:${PORT}').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))`

const FILE = {
  services: {
    server: {
      image: BASE,
      command: ['node', '-e', SERVER.replaceAll('$', '$$')],
      environment: { GREETING: '${GREETING:-}' },
      ports: [`127.0.0.1::${PORT}`],
      volumes: ['kept:/kept'],
      healthcheck: { test: ['CMD', 'node', '-e', ASKS], interval: '500ms', timeout: '5s', retries: 20 },
    },
  },
  volumes: { kept: {} },
}

export function describeHarness(engine: () => Engine): void {
  describe('the harness', () => {
    const directory = mkdtempSync(join(tmpdir(), `tidegate-harness-${process.pid}-`))
    const file = join(directory, 'compose.json')
    const name = `harness-${process.pid}`
    const environment = { GREETING: 'hello' }

    beforeAll(() => writeFileSync(file, JSON.stringify(FILE)))
    afterAll(() => rmSync(directory, { recursive: true }))

    async function withProject(use: (project: ComposeProject) => Promise<void>, override?: object): Promise<void> {
      const more = override === undefined ? {} : { override }
      const project = await ComposeProject.up(engine(), { name, files: [file], environment, ...more })
      try {
        await use(project)
      } finally {
        await project.down()
      }
    }

    /** Names of the engine's containers, networks and volumes that are the project's. */
    async function ofProject(): Promise<string> {
      const filter = ['--filter', `label=com.docker.compose.project=${name}`, '-q']
      const lists = ['ps -a', 'network ls', 'volume ls'].map((list) => list.split(' '))
      return (await Promise.all(lists.map(async (list) => await engine().docker([...list, ...filter])))).join('')
    }

    it('has a base image with this Node in it', async () => {
      const printed = await engine().docker(['run', '--rm', '--network', 'none', BASE, 'node', '--version'])
      expect(printed.split('.')[0]).toBe(process.version.split('.')[0])
    })

    it('brings a project up, and takes it down with all that is its own', async () => {
      await withProject(async (project) => {
        const server = await project.container('server')
        expect(await server.state()).toEqual({ status: 'running', health: 'healthy', exitCode: 0, restarts: 0 })
        expect(await answer(await server.published(PORT))).toBe('hello')
        expect(await answer(`${await server.address()}:${PORT}`)).toBe('hello')
        expect(await server.logs()).toBe('listening\n')
        expect(readFileSync(`/proc/${await server.pid()}/cmdline`, 'utf8')).toContain(`${PORT}`)
        await expect(project.container('server', 2)).rejects.toThrow('no container 2')
        expect(await ofProject()).not.toBe('')
      })
      expect(await ofProject()).toBe('')
    })

    it('lays an override over the files', async () => {
      const override = { services: { server: { environment: { GREETING: 'overridden' } } } }
      await withProject(async (project) => {
        expect(await answer(await (await project.container('server')).published(PORT))).toBe('overridden')
      }, override)
    })

    it('runs programs in a container', async () => {
      await withProject(async (project) => {
        const server = await project.container('server')
        const copied = await server.exec(['sh', '-c', 'cat; id -u; echo bad >&2; exit 3'], {
          user: '1000',
          input: 'put\n',
        })
        expect(copied).toEqual({ code: 3, stdout: 'put\n1000\n', stderr: 'bad\n' })
        expect((await server.exec(['sleep', '30'], { timeoutMs: 1_000 })).code).toBe(124)
      })
    })

    it('kills, stops, starts and pauses a container', async () => {
      await withProject(async (project) => {
        const server = await project.container('server')
        const first = await server.pid()
        await server.kill()
        expect(await server.state()).toMatchObject({ status: 'exited', exitCode: 137 })
        expect(await server.pid()).toBe(0)
        await server.start()
        expect([0, first]).not.toContain(await server.pid())
        expect(await answer(await server.published(PORT))).toBe('hello')
        await server.pause()
        expect((await server.state()).status).toBe('paused')
        await server.unpause()
        expect(await answer(await server.published(PORT))).toBe('hello')
        await server.stop()
        expect(await server.state()).toMatchObject({ status: 'exited', exitCode: 7 })
      })
    })

    it('says what a container said that does not come up, and leaves nothing of it', async () => {
      const override = { services: { server: { command: ['node', '-e', 'throw new Error("will not")'] } } }
      await expect(withProject(async () => await Promise.resolve(), override)).rejects.toThrow(/will not/)
      expect(await ofProject()).toBe('')
    })
  })
}

/** Once it answers: a container that has just started may not listen yet. */
async function answer(host: string): Promise<string> {
  const untilMs = performance.now() + ANSWER_MS_MAX
  for (;;) {
    try {
      const response = await fetch(`http://${host}`, {
        signal: AbortSignal.timeout(2_000),
        headers: { connection: 'close' },
      })
      return await response.text()
    } catch (error) {
      if (performance.now() > untilMs) throw error
    }
  }
}
