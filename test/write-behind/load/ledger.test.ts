import { expect, it } from 'vitest'
import { BrokenPromise, Ledger } from './ledger.ts'

it('knows nothing of a key: nothing may be there', () => {
  const ledger = new Ledger()
  expect(ledger.allowed('k', 'journal')).toEqual([undefined])
  expect(() => ledger.found('k', 'a', 'journal')).toThrow(BrokenPromise)
})

it('a crash takes nothing that was acknowledged, and may keep what was under way', () => {
  const ledger = new Ledger()
  ledger.begin('k', 'a').acknowledged('journal')
  ledger.begin('k', 'b')
  expect(ledger.allowed('k', 'journal')).toEqual(['a', 'b'])
  expect(() => ledger.found('k', undefined, 'journal')).toThrow('k holds nothing, and it may hold a or b')
  ledger.found('k', 'b', 'journal')
  expect(ledger.allowed('k', 'journal')).toEqual(['b'])
})

it('the loss of the node may take what came after the last write at persisted', () => {
  const ledger = new Ledger()
  ledger.begin('k', 'a').acknowledged('persisted')
  ledger.begin('k', 'b').acknowledged('journal')
  ledger.begin('k', undefined).acknowledged('journal')
  expect(ledger.allowed('k', 'persisted')).toEqual(['a', 'b', undefined])
  ledger.found('k', undefined, 'journal')
  expect(ledger.allowed('k', 'persisted')).toContain('a')
  ledger.begin('k', 'c').acknowledged('persisted')
  expect(ledger.allowed('k', 'persisted')).toEqual(['c'])
})

it('what was refused was never there', () => {
  const ledger = new Ledger()
  ledger.begin('k', 'a').acknowledged('journal')
  ledger.begin('k', 'b').refused()
  expect(ledger.allowed('k', 'journal')).toEqual(['a'])
})

it('after everything has been persisted the loss of the node takes nothing', () => {
  const ledger = new Ledger()
  ledger.begin('k', 'a').acknowledged('journal')
  ledger.begin('k', 'b').acknowledged('journal')
  ledger.allPersisted()
  expect(ledger.allowed('k', 'persisted')).toEqual(['b'])
})
