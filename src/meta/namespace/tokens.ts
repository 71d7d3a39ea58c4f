/** Bearer tokens: kept, found, revoked. What they allow is the store's affair. */
import { TidegateError } from '../../common/errors.ts'
import type { ByteString } from '../../common/ids.ts'
import { nothingWritten, type Commit, type NamespaceContext } from './context.ts'
import { prefixEnd, TOKEN_COUNT_KEY, TOKEN_ID_AT, tokenKey, TOKENS } from './keys.ts'
import { decodeToken, encodeToken, type StoredToken } from './records-tokens.ts'

const TOKENS_MAX = 10_000
/** What cannot be an id is not looked up. */
const TOKEN_ID = /^[a-z0-9]{1,64}$/
const NO_TOKEN = Promise.resolve(undefined)

/** @throws InvalidRequest when there are too many, or one of this id */
export function putToken(context: NamespaceContext, token: StoredToken): Promise<Commit<void>> {
  const key = tokenKey(token.id)
  return context.store.transact(async (tx) => {
    if (await tx.get(key)) throw new TidegateError('InvalidRequest', `there is a token ${JSON.stringify(token.id)}`)
    const [count = 0] = await tx.counters(TOKEN_COUNT_KEY, 1)
    if (count >= TOKENS_MAX) {
      throw new TidegateError('InvalidRequest', `there are ${count} tokens, and no more are kept: revoke some`)
    }
    tx.put(key, encodeToken(token))
    tx.add(TOKEN_COUNT_KEY, [1])
  })
}

/** A hot one is answered without a read of the store: it is asked for with every request that a token sends. */
export function findToken(context: NamespaceContext, id: string): Promise<StoredToken | undefined> {
  const key = tokenKey(id)
  const { answersAtOnce } = context.cache
  const hot = answersAtOnce ? context.cache.get(key) : undefined
  if (hot) return Promise.resolve(hot as StoredToken)
  if (!TOKEN_ID.test(id)) return NO_TOKEN
  return context.store.read(async (view) => {
    const warm = answersAtOnce ? undefined : context.cache.get(key)
    if (warm) return warm as StoredToken
    const fill = context.cache.beginFill(view)
    const row = await view.get(key)
    if (!row) return undefined
    const token = decodeToken(id, row)
    context.cache.put(key, token, { recordBytes: row.length, fill })
    return token
  })
}

/** Ascending by id, after `after`. */
export function listTokens(context: NamespaceContext, after: string, limit: number): Promise<StoredToken[]> {
  const start = (after === '' ? TOKENS : `${TOKENS}${after}\0`) as ByteString
  return context.store.read(async (view) => {
    const rows = await view.scan({ start, end: prefixEnd(TOKENS) }, limit)
    return rows.map((row) => decodeToken(row.key.slice(TOKEN_ID_AT), row.value))
  })
}

/** False when there is none. */
export async function removeToken(context: NamespaceContext, id: string): Promise<Commit<boolean>> {
  if (!TOKEN_ID.test(id)) return nothingWritten(context, false)
  const key = tokenKey(id)
  return context.store.transact(async (tx) => {
    if (!(await tx.get(key))) return false
    tx.delete(key)
    tx.add(TOKEN_COUNT_KEY, [-1])
    return true
  })
}
