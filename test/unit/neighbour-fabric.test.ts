/** Which fabric a node uses, and when none. */
import { hostname } from 'node:os'
import { expect, it } from 'vitest'
import type { Logger } from '../../src/common/logging.ts'
import { chooseFabric, fabricHost, ownAddress, tellPath, type FabricConfig } from '../../src/neighbour-fabric.ts'
import type { FabricDeviceOptions, FabricProvider } from '../../src/rdma/fabric/ports.ts'
import { FakeFabricNetwork } from '../support/fake-fabric.ts'

const CONFIG: FabricConfig = {
  fabric: 'auto',
  fabricAddress: undefined,
  neighbour: { host: '127.0.0.1', port: 0 },
  neighbourAdvertise: undefined,
}

function recording(): { logger: Logger; lines: string[] } {
  const lines: string[] = []
  const line =
    (level: string) =>
    (fields: object, text: string): void =>
      void lines.push(`${level} ${text} ${JSON.stringify(fields)}`)
  const logger = { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') }
  return { logger: logger as unknown as Logger, lines }
}

/** A machine with those providers; says what was asked for. */
async function chosen(
  config: Partial<FabricConfig>,
  { has, isEncrypted = false }: { has: readonly FabricProvider[]; isEncrypted?: boolean },
): Promise<{ provider: FabricProvider | undefined; asked: string[]; lines: string[] }> {
  const { logger, lines } = recording()
  const asked: string[] = []
  const device = await chooseFabric(
    { ...CONFIG, ...config },
    {
      isEncrypted,
      logger,
      open: async ({ provider, address }: FabricDeviceOptions) => {
        asked.push(`${provider} ${address}`)
        return has.includes(provider)
          ? { device: new FakeFabricNetwork().device({ provider }) }
          : { reason: 'no device' }
      },
    },
  )
  return { provider: device?.provider, asked, lines }
}

it('is verbs where there is a device, and by itself never a port for strangers', async () => {
  expect(await chosen({}, { has: ['verbs', 'tcp'] })).toMatchObject({ provider: 'verbs', asked: ['verbs 127.0.0.1'] })
  const none = await chosen({}, { has: ['tcp'] })
  expect(none).toMatchObject({ provider: undefined, asked: ['verbs 127.0.0.1'] })
  expect(none.lines).toEqual([expect.stringMatching(/^info .*no device/)])
})

it('is the one that was said, or none: then with a warning', async () => {
  expect(await chosen({ fabric: 'tcp' }, { has: ['verbs', 'tcp'] })).toMatchObject({
    provider: 'tcp',
    asked: ['tcp 127.0.0.1'],
  })
  const none = await chosen({ fabric: 'verbs' }, { has: ['tcp'] })
  expect(none).toMatchObject({ provider: undefined, asked: ['verbs 127.0.0.1'] })
  expect(none.lines).toEqual([expect.stringMatching(/^warn .*verbs.*no device/)])
  expect(await chosen({ fabric: 'off' }, { has: ['tcp'] })).toEqual({ provider: undefined, asked: [], lines: [] })
})

it('is none where the nodes speak TLS, unless it is asked for in words', async () => {
  const auto = await chosen({}, { has: ['verbs', 'tcp'], isEncrypted: true })
  expect(auto).toMatchObject({ provider: undefined, asked: [] })
  expect(auto.lines).toEqual([expect.stringContaining('--fabric verbs')])
  const said = await chosen({ fabric: 'tcp' }, { has: ['tcp'], isEncrypted: true })
  expect(said.provider).toBe('tcp')
  expect(said.lines.at(-1)).toMatch(/^warn .*not encrypted/)
})

it('is reached at an address of this machine', async () => {
  expect(fabricHost(CONFIG)).toBe('127.0.0.1')
  expect(fabricHost({ ...CONFIG, neighbour: { host: '::', port: 1 } })).toBe(hostname())
  const advertised = { ...CONFIG, neighbourAdvertise: { host: 'n1', port: 0 } }
  expect(fabricHost(advertised)).toBe('n1')
  expect(fabricHost({ ...advertised, fabricAddress: '10.0.0.1' })).toBe('10.0.0.1')
  expect(await ownAddress('localhost')).toMatch(/^127\.|^::1$/)
  // Of the documentation's network (RFC 5737).
  expect(await ownAddress('192.0.2.1')).toBeUndefined()
  const elsewhere = await chosen({ fabric: 'tcp', fabricAddress: '192.0.2.1' }, { has: ['tcp'] })
  expect(elsewhere).toMatchObject({ provider: undefined, asked: [] })
  expect(elsewhere.lines).toEqual([expect.stringMatching(/^warn .*192\.0\.2\.1 is no address of this machine/)])
})

it('is told of when it begins, is of no use, and ends', () => {
  const { logger, lines } = recording()
  tellPath(logger, 2, { path: 'fabric', provider: 'tcp', lineBytes: 65_536 })
  tellPath(logger, 2, { path: 'fabric', provider: 'tcp', lineBytes: Number.POSITIVE_INFINITY })
  tellPath(logger, 2, { path: 'connection', why: 'it was not moved in time' })
  expect(lines).toEqual([
    expect.stringMatching(/^info large bodies go to a node by the fabric .*65536/),
    expect.stringMatching(/^info .*slower.*not used/),
    expect.stringMatching(/^warn .*not moved in time/),
  ])
})
