/**
 * How the mount reads and writes: what is visible counts, as on a local file system. A name or a size that a program saw may be
 * gone after a power cut unless it was synced (C20); waiting for the disk before each look-up would make `tar x` wait for it
 * thousands of times. The other doors wait (OrderedStore.read).
 */
import type { Committed, ReadView, Transaction } from '../../ports.ts'
import type { NamespaceContext } from '../context.ts'

export function readVisible<T>(context: NamespaceContext, fn: (view: ReadView) => Promise<T>): Promise<T> {
  return context.store.read(fn, { tell: 'visible' })
}

export function transactVisible<T>(
  context: NamespaceContext,
  fn: (tx: Transaction) => Promise<T>,
): Promise<Committed<T>> {
  return context.store.transact(fn, { tell: 'visible' })
}
