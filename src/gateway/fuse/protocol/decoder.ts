import type { OperationName } from './opcodes.ts'
import type { RequestBody } from './request-body.ts'
import type { RequestHeader, RequestOf } from './requests.ts'

/** How the body of one operation is read. */
export interface Decoder<Name extends OperationName> {
  /** Of the fixed struct, as this kernel or an older one sends it; later kernels may append to it. */
  readonly fixedBytes: number
  /** Whether names or data follow the struct; then the request must end with them. */
  readonly isVariable: boolean
  readonly decode: (body: RequestBody, header: RequestHeader) => RequestOf<Name>
}

export type Decoders<Name extends OperationName> = { readonly [Each in Name]: Decoder<Each> }

/** Of an operation with nothing but a struct of `fixedBytes`. */
export function fixed<Name extends OperationName>(fixedBytes: number, decode: Decoder<Name>['decode']): Decoder<Name> {
  return { fixedBytes, isVariable: false, decode }
}

/** Of an operation with names or data behind a struct of `fixedBytes`. */
export function variable<Name extends OperationName>(
  fixedBytes: number,
  decode: Decoder<Name>['decode'],
): Decoder<Name> {
  return { fixedBytes, isVariable: true, decode }
}
