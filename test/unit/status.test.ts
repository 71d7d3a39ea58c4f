import { expect, it } from 'vitest'
import type { NodeMember } from '../../src/common/node-view.ts'
import { createStatus, neighbourStatus, type NeighbourStatusParts, type StatusParts } from '../../src/status.ts'
import { FakeFlush } from '../support/fake-flush.ts'
import { fixture, TestClock } from './meta/namespace/fixture.ts'

const MIB = 1024 * 1024

class PatientClock extends TestClock {
  override sleep(): Promise<void> {
    return new Promise(() => undefined)
  }
}

async function begin(more: Partial<StatusParts> = {}): Promise<{ parts: StatusParts; stop: () => Promise<void> }> {
  const { store, stop } = await fixture()
  const engine = {
    memory: { bytesHeld: MIB, stats: { hits: 3, misses: 1 } },
    diskLevel: undefined,
    readHealth: undefined,
    names: undefined,
    writeBehind: new FakeFlush(),
    orderedStore: store,
  }
  const parts = {
    engine: engine as never,
    slabBytes: 8 * MIB,
    version: '0.1.0',
    clock: new PatientClock(),
    trouble: () => undefined,
    neighbours: undefined,
    ...more,
  }
  return { parts, stop }
}

function member(number: number): NodeMember {
  const rest = { incarnation: '0'.repeat(16), weight: 1, labels: {}, state: 'serving', version: '0.1.0' } as const
  return { ...rest, number, name: `n${number}`, address: `127.0.0.1:${9000 + number}` }
}

const PEER = { calls: 4, failures: 0, bytesIn: 100, bytesOut: 20, roundTripMs: 0.5 }

const FABRIC = {
  provider: 'tcp',
  isUsed: true,
  lineBytes: 65_536,
  reads: 1,
  writes: 2,
  bytesRead: 30,
  bytesWritten: 40,
  fallbacks: 5,
  lastFailure: undefined,
} as const

const NEIGHBOURS: NeighbourStatusParts = {
  view: {
    self: 1,
    members: () => [1, 2, 3, 4].map(member),
    member,
    onChange: () => () => undefined,
  },
  transport: {
    figures: {
      peers: [
        { ...PEER, node: 2, connected: true, fabric: FABRIC },
        { ...PEER, node: 3, connected: false, fabric: { ...FABRIC, isUsed: false } },
      ],
      refused: {} as never,
      badFrames: 0,
    },
  },
  asked: () => ({ hits: 5, misses: 2, timeouts: 1, badPages: 0 }),
  copies: {
    status: () => ({ heldSegments: 2, heldBytes: 30, openCopies: 1, wantingCopies: 3, recopiedSegments: 0 }),
  },
  lost: () => [{ number: 5, name: undefined, state: 'away', awayMs: 10 }],
  isRemoteShared: false,
}

it('speaks of this node alone where metadata are not shared', async () => {
  const { parts, stop } = await begin()
  const clock = parts.clock as PatientClock
  const status = createStatus(parts)
  clock.ms += 2_000
  expect(await status.look()).toMatchObject({
    node: { number: undefined, upMs: 2_000, trouble: undefined },
    nodes: [],
    lost: [],
    tiers: { memory: { bytesHeld: MIB, bytesMax: 8 * MIB, hits: 3, misses: 1 }, neighbours: undefined },
    backlog: { bytes: 80 * MIB, segments: 3, failingSegments: 1, copiesWaiting: 0 },
    holdings: undefined,
  })
  await stop()
})

it('says of each other node whether it is reached, and adds up what was asked and carried', async () => {
  const neighbours = neighbourStatus(NEIGHBOURS)
  const { parts, stop } = await begin({ neighbours })
  const { node, nodes, lost, tiers, backlog, holdings } = await createStatus(parts).look()
  expect(node).toMatchObject({ number: 1 })
  expect(
    nodes.map(({ number, isSelf, isReachable, roundTripMs, fabric }) => [
      number,
      isSelf,
      isReachable,
      roundTripMs,
      fabric,
    ]),
  ).toEqual([
    [1, true, true, undefined, undefined],
    [2, false, true, 0.5, 'tcp'],
    [3, false, false, 0.5, undefined],
    [4, false, undefined, undefined, undefined],
  ])
  expect(neighbours.figures().fabric).toEqual({
    peers: 1,
    reads: 2,
    writes: 4,
    bytesRead: 60,
    bytesWritten: 80,
    fallbacks: 10,
  })
  expect(lost).toEqual([{ number: 5, name: undefined, state: 'away', awayMs: 10 }])
  expect(tiers.neighbours).toMatchObject({ hits: 5, misses: 2, timeouts: 1, bytesIn: 200, bytesOut: 40, peers: 1 })
  expect(backlog.copiesWaiting).toBe(3)
  expect(holdings).toMatchObject({ isComplete: true, trouble: undefined, copiesHere: { segments: 2, bytes: 30 } })
  expect(holdings?.byNode).toHaveLength(1)
  await stop()
})
