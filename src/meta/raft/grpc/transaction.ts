/** Requests and results of the port in etcd's messages, and back. */
import { AssertionFailed, assert, must } from '../../../common/assert.ts'
import type { KeyRange } from '../../ports.ts'
import type {
  Compare,
  EtcdOperation,
  EtcdTransaction,
  OperationResult,
  RangeRequest,
  RangeResult,
  TransactionResult,
} from '../ports.ts'
import { EQUAL, LESS, MOD } from './messages.ts'
import type {
  CompareMessage,
  DeleteMessage,
  OperationAnswer,
  OperationMessage,
  RangeAnswer,
  RangeMessage,
  TransactionAnswer,
  TransactionMessage,
} from './messages.ts'

/**
 * etcd takes an absent end for "this key alone", and an end of one NUL for "to the end". Neither can be meant by a range of the port, whose end lies
 * behind a start that is not empty.
 */
export function rangeFields(range: KeyRange): Pick<DeleteMessage, 'key' | 'rangeEnd'> {
  assert(range.start !== '' && range.start < range.end, 'a range of etcd has a start, and an end behind it')
  return { key: range.start, rangeEnd: range.end }
}

export function rangeMessage(request: RangeRequest): Partial<RangeMessage> {
  const { range, limit, revision, serializable } = request
  return { ...rangeFields(range), limit, revision: revision ?? 0, serializable: serializable ?? false }
}

export function rangeResult(answer: RangeAnswer): RangeResult {
  return { rows: answer.kvs, more: answer.more, revision: must(answer.header, 'header').revision }
}

export function transactionMessage(transaction: EtcdTransaction): TransactionMessage {
  return {
    compare: transaction.compares.map(compareMessage),
    success: transaction.success.map(operationMessage),
    failure: transaction.failure.map(operationMessage),
  }
}

function compareMessage(compare: Compare): Partial<CompareMessage> {
  switch (compare.kind) {
    case 'unchanged':
      return { result: EQUAL, target: MOD, key: compare.key, modRevision: compare.modRevision }
    case 'none younger':
      return { result: LESS, target: MOD, ...rangeFields(compare.range), modRevision: compare.revision + 1 }
  }
}

function operationMessage(operation: EtcdOperation): Partial<OperationMessage> {
  switch (operation.kind) {
    case 'put':
      return { put: { key: operation.key, value: operation.value, lease: operation.lease ?? '0' } }
    case 'delete':
      return { delete: rangeFields(operation.range) }
    case 'range':
      return { range: { ...rangeFields(operation.range), limit: operation.limit } }
    case 'transaction':
      return { transaction: transactionMessage(operation.transaction) }
  }
}

export function transactionResult(answer: TransactionAnswer): TransactionResult {
  return resultAt(answer, must(answer.header, 'header').revision)
}

/** The headers of nested answers do not tell the revision. */
function resultAt(answer: TransactionAnswer, revision: number): TransactionResult {
  const results = answer.responses.map((response) => operationResult(response, revision))
  return { succeeded: answer.succeeded, results, revision }
}

function operationResult(response: OperationAnswer, revision: number): OperationResult {
  if (response.put !== undefined) return { kind: 'put' }
  if (response.delete !== undefined) return { kind: 'delete', deleted: response.delete.deleted }
  if (response.range !== undefined) {
    const { kvs, more } = response.range
    return { kind: 'range', found: { rows: kvs, more, revision: response.range.header?.revision ?? revision } }
  }
  if (response.transaction !== undefined)
    return { kind: 'transaction', result: resultAt(response.transaction, revision) }
  throw new AssertionFailed('an answer of etcd to no operation')
}
