import type { Names } from './ports.ts'

/** Where there is no stream of names: segments under the data directory, beside the metadata that names them. */
export const noNames: Names = {
  named: () => Promise.resolve(),
  covered: () => Promise.resolve(),
  holds: () => false,
  mayRemove: () => true,
}
