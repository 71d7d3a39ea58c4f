/** What may be said of the other nodes, and what not. */
import { describe, expect, it } from 'vitest'
import { parseConfig, type Config } from '../../../src/config/parse.ts'

function parse(...argv: string[]): Config {
  const readFile = (path: string): string => {
    throw new Error(`ENOENT: ${path}`)
  }
  return parseConfig({ argv, env: {}, readFile, machine: { memoryBytes: 2 ** 33, cpuCount: 4 } })
}

const META = ['--meta', 'etcd://127.0.0.1:2379'] as const

describe('options of nodes that share metadata', () => {
  it('have defaults that work on one machine', () => {
    const defaults = {
      neighbour: { host: '127.0.0.1', port: 0 },
      neighbourAdvertise: undefined,
      nodeWeight: 100,
      nodeLabel: [],
      fabric: 'auto',
      fabricAddress: undefined,
      nodeGrace: 30_000,
      remoteShared: false,
    }
    expect(parse()).toMatchObject(defaults)
    expect(parse(...META)).toMatchObject(defaults)
  })

  it('are read', () => {
    const argv = ['--neighbour', '0.0.0.0:7000', '--neighbour-advertise', 'node-1.example:0', '--node-weight', '0']
    const labels = ['--node-label', 'zone=a', '--node-label', 'rack=r/1.2']
    expect(parse(...META, ...argv, ...labels, '--node-grace', '3s')).toMatchObject({
      neighbour: { host: '0.0.0.0', port: 7_000 },
      neighbourAdvertise: { host: 'node-1.example', port: 0 },
      nodeWeight: 0,
      nodeLabel: [
        { name: 'zone', value: 'a' },
        { name: 'rack', value: 'r/1.2' },
      ],
      nodeGrace: 3_000,
    })
    expect(parse(...META, '--fabric', 'verbs', '--fabric-address', '10.0.0.1')).toMatchObject({
      fabric: 'verbs',
      fabricAddress: '10.0.0.1',
    })
    expect(parse(...META, '--fabric-address', 'fe80::1').fabricAddress).toBe('fe80::1')
    // Without shared metadata nothing listens, so it does not matter where.
    expect(parse('--neighbour', '0.0.0.0:7000').neighbour.host).toBe('0.0.0.0')
  })

  it.each([
    [[...META, '--neighbour-advertise', '0.0.0.0:7000'], '--neighbour-advertise: '],
    [['--neighbour-advertise', 'a:1'], '--neighbour-advertise is for gateways that share metadata'],
    [['--fabric-address', '10.0.0.1'], '--fabric-address is for gateways that share metadata'],
    [[...META, '--fabric-address', '0.0.0.0'], '--fabric-address: 0.0.0.0 is no address'],
    [[...META, '--fabric-address', '10.0.0.1:7'], '--fabric-address: "10.0.0.1:7" on the command line is not a host'],
    [[...META, '--fabric-address', '10.0.0.1', '--fabric', 'off'], '--fabric-address: --fabric is off'],
    [['--fabric', 'rdma'], '--fabric: "rdma" on the command line is not one of auto, verbs, tcp, off'],
    [['--node-label', 'zone=a'], '--node-label is for gateways that share metadata'],
    [[...META, '--node-label', 'zone=a', '--node-label', 'zone=b'], '--node-label: zone is given twice'],
    [[...META, '--node-label', 'zone'], '--node-label: "zone" on the command line is not NAME=VALUE'],
    [[...META, '--node-label', '=a'], 'is not NAME=VALUE'],
    [['--node-weight', '1001'], '--node-weight: "1001" on the command line is not at most 1000'],
    [['--node-weight', '-1'], '--node-weight: "-1" on the command line is not a whole number from 0'],
    [['--node-weight', '01'], 'is not a whole number from 0'],
    [['--node-grace', '2s'], '--node-grace: "2s" on the command line is not at least 3s'],
    [['--remote-shared', 'yes'], '--remote-shared: "yes" on the command line is not one of on, off'],
  ])('refuses %j', (argv, message) => {
    expect(() => parse(...argv)).toThrow(message)
  })
})
