/** What the admin API would say of three nodes, one of which is lost. */
import type { StatusSource, StatusView } from '../../src/gateway/admin/status.ts'

const MIB = 1024 * 1024

const NODE = { version: '0.1.0', weight: 1, state: 'serving' } as const

export const STATUS: StatusView = {
  node: { number: 1, version: '0.1.0', upMs: 65_000, trouble: undefined },
  nodes: [
    {
      ...NODE,
      number: 1,
      name: 'a',
      address: '10.0.0.1:9002',
      labels: { zone: 'x' },
      isSelf: true,
      isReachable: true,
      roundTripMs: undefined,
      fabric: undefined,
    },
    {
      ...NODE,
      number: 2,
      name: 'b',
      address: '10.0.0.2:9002',
      labels: {},
      isSelf: false,
      isReachable: true,
      roundTripMs: 0.42,
      fabric: 'tcp',
    },
    {
      ...NODE,
      number: 4,
      name: 'd',
      state: 'leaving',
      address: '10.0.0.4:9002',
      labels: {},
      isSelf: false,
      isReachable: false,
      roundTripMs: undefined,
      fabric: undefined,
    },
  ],
  lost: [{ number: 3, name: 'c', state: 'fenced', awayMs: 61_000 }],
  tiers: {
    memory: { bytesHeld: 12 * MIB, bytesMax: 64 * MIB, hits: 10, misses: 2 },
    disk: undefined,
    neighbours: { hits: 5, misses: 1, timeouts: 1, badPages: 0, bytesIn: 5 * MIB, bytesOut: 0, peers: 1 },
    remote: undefined,
  },
  backlog: {
    bytes: 3 * MIB,
    bytesMax: 1024 * MIB,
    segments: 2,
    oldestAgeMs: 1500,
    failingSegments: 1,
    paused: false,
    copiesWaiting: 2,
  },
  holdings: {
    ageMs: 2000,
    isComplete: true,
    trouble: undefined,
    byNode: [
      { node: 1, state: 'sealed', segments: 2, bytes: 3 * MIB },
      { node: 3, state: 'persisted', segments: 1, bytes: MIB },
    ],
    copiesHere: { segments: 1, bytes: MIB },
    unreachable: [{ node: 3, segments: 1, bytes: MIB }],
  },
}

/** Of a gateway that shares its metadata with nobody. */
export const ALONE: StatusView = {
  node: { number: undefined, version: '0.1.0', upMs: 1000, trouble: undefined },
  nodes: [],
  lost: [],
  tiers: { ...STATUS.tiers, neighbours: undefined, remote: { trouble: 'the key was revoked' } },
  backlog: { ...STATUS.backlog, failingSegments: 0, copiesWaiting: 0, paused: true },
  holdings: undefined,
}

export class FakeStatus implements StatusSource {
  view: StatusView = STATUS

  look(): Promise<StatusView> {
    return Promise.resolve(this.view)
  }
}
