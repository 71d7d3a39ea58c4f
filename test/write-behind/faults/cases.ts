/** What goes wrong on the way to the remote store, and for how long. */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExternalS3 } from '../../support/external-s3.ts'
import { randomCredentials, type GatewayProcess } from '../../support/gateway-process.ts'
import { FAIR, type Weather, type WeatherProxy } from '../remote/weather-proxy.ts'

export interface FaultWorld {
  readonly server: ExternalS3
  readonly proxy: WeatherProxy
  readonly gateway: GatewayProcess
  /** The file system of the data directory; of its own for `ownDisk`. */
  readonly disk: string
}

type Undo = () => Promise<void> | void

export interface FaultCase {
  readonly name: string
  readonly seconds: { readonly short: number; readonly long: number }
  /** @returns what ends it */
  readonly strike: (world: FaultWorld) => Promise<Undo> | Undo
  /** The data directory lies on a small file system in memory, which only root can mount. */
  readonly ownDisk?: true
  readonly flags?: readonly string[]
  readonly program?: readonly [string, ...string[]]
}

const CLOCK_PROGRAM = [process.execPath, fileURLToPath(new URL('clock-process.ts', import.meta.url))] as const

export const FAULT_CASES: readonly FaultCase[] = [
  {
    name: 'none',
    seconds: { short: 8, long: 60 },
    strike: () => () => undefined,
  },
  {
    name: 'remote store down',
    seconds: { short: 20, long: 600 },
    strike: async ({ server }) => {
      await server.kill()
      return () => server.restart()
    },
  },
  {
    name: 'remote store stands still',
    seconds: { short: 10, long: 120 },
    strike: ({ server }) => {
      server.pause()
      return () => server.resume()
    },
  },
  {
    name: '30 % errors',
    seconds: { short: 12, long: 120 },
    strike: ({ proxy }) => changeWeather(proxy, { refuseChance: 0.1, dropChance: 0.1, loseChance: 0.1 }),
  },
  {
    name: '2 s latency',
    seconds: { short: 12, long: 120 },
    strike: ({ proxy }) => changeWeather(proxy, { delayMs: 2_000 }),
  },
  {
    name: 'local disk full',
    seconds: { short: 10, long: 60 },
    ownDisk: true,
    flags: ['--disk-reserve', '24MiB'],
    strike: ({ disk }) => {
      const path = join(disk, 'foreign')
      fillUp(path)
      return () => rmSync(path)
    },
  },
  {
    name: 'credentials revoked',
    seconds: { short: 12, long: 120 },
    strike: async ({ server }) => {
      const known = { accessKey: server.accessKey, secretKey: server.secretKey }
      await server.kill()
      await server.restart(randomCredentials())
      return async () => {
        await server.kill()
        await server.restart(known)
      }
    },
  },
  {
    name: 'clock jumps by a day, and back',
    seconds: { short: 10, long: 120 },
    program: CLOCK_PROGRAM,
    strike: ({ gateway }) => {
      gateway.child.kill('SIGUSR2')
      return () => void gateway.child.kill('SIGUSR2')
    },
  },
]

function changeWeather(proxy: WeatherProxy, weather: Partial<Weather>): Undo {
  proxy.weather = { ...FAIR, ...weather }
  return () => {
    proxy.weather = FAIR
  }
}

/** Takes what is left, reserve or not, as another program would. */
function fillUp(path: string): void {
  const file = openSync(path, 'w')
  const block = Buffer.alloc(64 * 1024)
  try {
    for (;;) writeSync(file, block)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  } finally {
    closeSync(file)
  }
}
