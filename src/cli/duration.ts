import { PARSERS, ValueError } from '../config/values.ts'
import { UsageError } from './command.ts'

/** Of the text that stands after a flag. @throws UsageError */
export function durationMs(flag: string, text: string): number {
  try {
    return PARSERS.duration(text)
  } catch (error) {
    if (error instanceof ValueError) throw new UsageError(`${flag} ${JSON.stringify(text)} is not ${error.message}`)
    throw error
  }
}
