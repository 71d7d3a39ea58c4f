/**
 * From the bytes of one request to a typed record. A request is what one read(2) of the device returned:
 *
 *     fuse_in_header  40   0 len u32: of the whole request; 4 opcode u32; 8 unique u64; 16 nodeid u64; 24 uid u32;
 *                          28 gid u32; 32 pid u32; 36 total_extlen u16 (7.38): extensions at the end of the request, in units
 *                          of 8 bytes (0 unless INIT asked for some, and it does not); 38 padding
 *     body                 by opcode: decode-names.ts, decode-files.ts, decode-nodes.ts
 *
 * A request is well formed if `len` is what was read, the struct of the operation is there in full, texts end with a NUL,
 * and what is of variable length ends exactly where the request does. A struct may be longer than known here: later minor
 * versions append fields. Everything else becomes `MALFORMED` with the reason; an operation not in OPCODES `UNKNOWN`.
 * Decoding never throws for what is in the memory, whatever it is.
 */
import { assert } from '../../../common/assert.ts'
import { FILE_DECODERS } from './decode-files.ts'
import { NAME_DECODERS } from './decode-names.ts'
import { NODE_DECODERS } from './decode-nodes.ts'
import type { Decoders } from './decoder.ts'
import { OPCODES, type OperationName } from './opcodes.ts'
import { RequestBody } from './request-body.ts'
import type { DecodedRequest, FuseRequest, RequestHeader } from './requests.ts'
import { readId } from './wire.ts'

export const IN_HEADER_BYTES = 40

const DECODERS = { ...NAME_DECODERS, ...FILE_DECODERS, ...NODE_DECODERS } satisfies Decoders<OperationName>

interface AnyDecoder {
  readonly fixedBytes: number
  readonly isVariable: boolean
  readonly decode: (body: RequestBody, header: RequestHeader) => FuseRequest
}

/** By opcode, with holes. */
const BY_OPCODE: (AnyDecoder | undefined)[] = []
for (const [name, opcode] of Object.entries(OPCODES)) BY_OPCODE[opcode] = DECODERS[name as OperationName]

/** Decodes the requests that lie in one piece of memory, the slots of a channel. */
export class RequestDecoder {
  readonly #view: DataView
  readonly #body: RequestBody
  readonly #memoryBytes: number

  constructor(memory: Uint8Array) {
    const { buffer, byteOffset, byteLength } = memory
    this.#view = new DataView(buffer, byteOffset, byteLength)
    this.#body = new RequestBody(Buffer.from(buffer, byteOffset, byteLength), this.#view)
    this.#memoryBytes = byteLength
  }

  /** The request of `lengthBytes` (what read(2) returned) at `start` of the memory. Views in it are of that memory. */
  decode(start: number, lengthBytes: number): DecodedRequest {
    assert(start >= 0 && lengthBytes >= 0 && start + lengthBytes <= this.#memoryBytes, 'a request within its memory')
    const view = this.#view
    if (lengthBytes < IN_HEADER_BYTES) return malformed(undefined, 'shorter than its header')
    const unique = readId(view, start + 8)
    const nodeId = readId(view, start + 16)
    if (unique === undefined || nodeId === undefined) return malformed(undefined, 'an id that was never given out')
    const header: RequestHeader = {
      opcode: view.getUint32(start + 4, true),
      unique,
      nodeId,
      uid: view.getUint32(start + 24, true),
      gid: view.getUint32(start + 28, true),
      pid: view.getUint32(start + 32, true),
    }
    if (view.getUint32(start, true) !== lengthBytes) return malformed(header, 'not as long as it says')
    const bodyBytes = lengthBytes - IN_HEADER_BYTES - 8 * view.getUint16(start + 36, true)
    return bodyBytes < 0
      ? malformed(header, 'longer extensions than request')
      : this.#decodeBody(header, start + IN_HEADER_BYTES, bodyBytes)
  }

  #decodeBody(header: RequestHeader, start: number, sizeBytes: number): DecodedRequest {
    const decoder = BY_OPCODE[header.opcode]
    if (decoder === undefined) return { operation: 'UNKNOWN', header }
    if (sizeBytes < decoder.fixedBytes) return malformed(header, 'a struct cut short')
    const body = this.#body
    body.begin(start, start + sizeBytes, decoder.fixedBytes)
    const request = decoder.decode(body, header)
    if (decoder.isVariable) body.finish()
    return body.fault === undefined ? request : malformed(header, body.fault)
  }
}

function malformed(header: RequestHeader | undefined, reason: string): DecodedRequest {
  return { operation: 'MALFORMED', header, reason }
}
