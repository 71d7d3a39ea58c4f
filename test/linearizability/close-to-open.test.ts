import { expect, it } from 'vitest'
import { staleReads, type MountRead, type MountWrite } from './close-to-open.ts'

const NAME = 'f'
/** One acknowledged, one of unknown outcome, one acknowledged. */
const WRITES: readonly MountWrite[] = [
  { content: 'a', startedMs: 10, acknowledgedMs: 20 },
  { content: 'b', startedMs: 30, acknowledgedMs: undefined },
  { content: 'c', startedMs: 50, acknowledgedMs: 60 },
]

function stale(content: string | undefined, startedMs: number, endedMs: number): number {
  const read: MountRead = { name: NAME, by: 'n1', startedMs, endedMs, content }
  return staleReads(new Map([[NAME, WRITES]]), [read]).length
}

it.each([
  ['nothing before the first write', undefined, 0, 5],
  ['nothing while it is written', undefined, 12, 25],
  ['what is being written', 'a', 12, 15],
  ['what was acknowledged', 'a', 25, 28],
  ['what was acknowledged before a write of unknown outcome', 'a', 40, 45],
  ['what has an unknown outcome', 'b', 40, 45],
  ['what was acknowledged before one that is being written', 'a', 52, 55],
  ['what was written last', 'c', 70, 80],
])('allows %s', (_, content, startedMs, endedMs) => {
  expect(stale(content, startedMs, endedMs)).toBe(0)
})

it.each([
  ['nothing after a write was acknowledged', undefined, 25, 28],
  ['what is written after the reading was over', 'b', 25, 28],
  ['what was overwritten before', 'a', 61, 70],
  ['what was tried before the last one that was acknowledged', 'b', 61, 70],
  ['what nobody wrote', 'x', 61, 70],
])('refuses %s', (_, content, startedMs, endedMs) => {
  expect(stale(content, startedMs, endedMs)).toBe(1)
})

it('refuses anything but nothing in a file that nobody writes', () => {
  const read: MountRead = { name: 'g', by: 'n1', startedMs: 1, endedMs: 2, content: 'a' }
  expect(staleReads(new Map(), [read])).toHaveLength(1)
  expect(staleReads(new Map(), [{ ...read, content: undefined }])).toEqual([])
})
