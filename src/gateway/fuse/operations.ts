/** Every operation of the protocol, by name: one that is decoded and not here does not compile. */
import { ATTRIBUTE_OPERATIONS } from './operations/attributes.ts'
import { CONNECTION_OPERATIONS } from './operations/connection.ts'
import { COPY_OPERATIONS } from './operations/copy.ts'
import { DATA_OPERATIONS } from './operations/data.ts'
import { DIRECTORY_OPERATIONS } from './operations/directories.ts'
import { LOCK_OPERATIONS } from './operations/locks.ts'
import { NAME_OPERATIONS } from './operations/names.ts'
import type { MountState, Operations } from './operations/operation.ts'
import { XATTR_OPERATIONS } from './operations/xattrs.ts'
import type { OperationName } from './protocol/opcodes.ts'
import type { FuseRequest } from './protocol/requests.ts'
import { isVirtualNodeId } from './virtual/nodes.ts'
import { VIRTUAL_OPERATIONS } from './virtual/operations.ts'

const OPERATIONS: Operations<OperationName> = {
  ...CONNECTION_OPERATIONS,
  ...NAME_OPERATIONS,
  ...ATTRIBUTE_OPERATIONS,
  ...DATA_OPERATIONS,
  ...COPY_OPERATIONS,
  ...DIRECTORY_OPERATIONS,
  ...LOCK_OPERATIONS,
  ...XATTR_OPERATIONS,
}

type AnyOperation = (request: FuseRequest, mount: MountState) => Promise<void> | void

export function runOperation(request: FuseRequest, mount: MountState): Promise<void> | void {
  const operations = isVirtualNodeId(request.header.nodeId) ? VIRTUAL_OPERATIONS : OPERATIONS
  // The record and its operation go by the same name, which the compiler cannot follow through a union.
  return (operations[request.operation] as AnyOperation)(request, mount)
}
