/** What libfabric's errors mean to whoever started an operation. */
import { FabricFailure } from './ports.ts'
import type { FailureKind } from './ports.ts'

/** By number: `errno`, and libfabric's own from 256 on (rdma/fi_errno.h). */
const KINDS: ReadonlyMap<number, FailureKind> = new Map<number, FailureKind>([
  [1 /* EPERM */, 'refused'],
  [13 /* EACCES */, 'refused'],
  [14 /* EFAULT */, 'refused'],
  [121 /* EREMOTEIO */, 'refused'],
  [266 /* ENOKEY */, 'refused'],
  [32 /* EPIPE */, 'gone'],
  [99 /* EADDRNOTAVAIL */, 'gone'],
  [100 /* ENETDOWN */, 'gone'],
  [101 /* ENETUNREACH */, 'gone'],
  [103 /* ECONNABORTED */, 'gone'],
  [104 /* ECONNRESET */, 'gone'],
  [107 /* ENOTCONN */, 'gone'],
  [108 /* ESHUTDOWN */, 'gone'],
  [110 /* ETIMEDOUT */, 'gone'],
  [111 /* ECONNREFUSED */, 'gone'],
  [112 /* EHOSTDOWN */, 'gone'],
  [113 /* EHOSTUNREACH */, 'gone'],
  [125 /* ECANCELED */, 'cut off'],
  [12 /* ENOMEM */, 'unfit'],
  [19 /* ENODEV */, 'unfit'],
  [23 /* ENFILE */, 'unfit'],
  [24 /* EMFILE */, 'unfit'],
  [28 /* ENOSPC */, 'unfit'],
  [38 /* ENOSYS */, 'unfit'],
  [61 /* ENODATA */, 'unfit'],
])

/** An error that says no more than that it was one: then the adapter's own status does (`enum ibv_wc_status`). */
const EIO = 5
const ADAPTER_KINDS: ReadonlyMap<number, FailureKind> = new Map<number, FailureKind>([
  [9 /* REM_INV_REQ_ERR */, 'refused'],
  [10 /* REM_ACCESS_ERR */, 'refused'],
  [11 /* REM_OP_ERR */, 'refused'],
  [5 /* WR_FLUSH_ERR */, 'gone'],
  [12 /* RETRY_EXC_ERR */, 'gone'],
  [13 /* RNR_RETRY_EXC_ERR */, 'gone'],
])

/** Of an operation that was under way. `detail`: the provider's own number. */
export function failureOf(error: number, detail: number, explanation: string): FabricFailure {
  const kind = (error === EIO ? ADAPTER_KINDS.get(detail) : undefined) ?? KINDS.get(error) ?? 'failed'
  // Flushed because the connection broke: nobody here has closed anything.
  const said = kind === 'cut off' ? 'gone' : kind
  return new FabricFailure(said, `${explanation} (${error}, ${detail})`)
}

/** Of a call that did nothing. */
export function failureOfCall(error: number, what: string, explanation: string): FabricFailure {
  return new FabricFailure(KINDS.get(error) ?? 'failed', `${what}: ${explanation} (${error})`)
}
