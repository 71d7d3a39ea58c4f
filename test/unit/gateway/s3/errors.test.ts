import { describe, expect, it } from 'vitest'
import { ERROR_CODES, TidegateError } from '../../../../src/common/errors.ts'
import { AUTH_ERROR_STATUS, AuthError, type AuthErrorCode } from '../../../../src/gateway/http/auth/errors.ts'
import { shownError } from '../../../../src/gateway/s3/error-response.ts'
import { S3_ERRORS } from '../../../../src/gateway/s3/errors.ts'

describe('error tables', () => {
  it('give every core code an S3 code and status', () => {
    for (const code of ERROR_CODES) {
      const shown = shownError(new TidegateError(code, 'the value at fault'))
      expect(S3_ERRORS, code).toHaveProperty(shown?.code ?? '')
      expect(shown?.message, code).not.toBe('')
    }
  })

  it('pass authentication errors on with their status and details', () => {
    for (const code of Object.keys(AUTH_ERROR_STATUS) as AuthErrorCode[]) {
      expect(shownError(new AuthError(code, 'm', { Region: 'x' }))).toEqual({
        code,
        status: AUTH_ERROR_STATUS[code],
        message: 'm',
        details: { Region: 'x' },
      })
    }
  })

  it('show nothing of a bug', () => expect(shownError(new TypeError('secret'))).toBeUndefined())

  it('never show the cause or the details of a core error', () => {
    const error = new TidegateError('Internal', 'path /var/lib', { cause: new Error('disk'), details: { path: '/x' } })
    expect(JSON.stringify(shownError(error))).not.toMatch(/var|disk|\/x/)
  })
})
