import { describe, expect, it } from 'vitest'
import { httpDate, isoDate, parseHttpDate } from '../../../../src/gateway/http/http-times.ts'

describe('times', () => {
  it('are whole seconds in headers and milliseconds in XML', () => {
    expect(httpDate(1_700_000_000_999)).toBe('Tue, 14 Nov 2023 22:13:20 GMT')
    expect(httpDate(0)).toBe('Thu, 01 Jan 1970 00:00:00 GMT')
    expect(isoDate(1_700_000_000_999)).toBe('2023-11-14T22:13:20.999Z')
    expect(parseHttpDate('Tue, 14 Nov 2023 22:13:20 GMT')).toBe(1_700_000_000_000)
    expect(parseHttpDate('yesterday')).toBeUndefined()
  })
})
