/** What is said of each option, in option-table.ts. */
import type { ValueType } from './values.ts'

/** Where a value may come from, strongest first. */
export const SOURCES = ['flag', 'environment', 'file', 'default'] as const
export type Source = (typeof SOURCES)[number]

export interface OptionSpec {
  readonly type: ValueType
  readonly group: 'Addresses' | 'Data' | 'Cluster' | 'S3' | 'Limits' | 'Observability' | 'Root user'
  /** What stands for the value in `--help`. */
  readonly metavar: string
  readonly help: string
  /** As it would be written by a user. */
  readonly default?: string
  /** How the default is worked out where it depends on the machine. */
  readonly derived?: string
  /** Bounds of a size, a time or a number, as a user would write them. */
  readonly min?: string
  readonly max?: string
  /** 0 is allowed below `min`, and means that there is to be none. */
  readonly zero?: 'none'
  readonly repeat?: true
  /** Secrets and what bootstraps the file are not read from everywhere. All three when absent. */
  readonly from?: readonly Exclude<Source, 'default'>[]
  /** Further environment variables that are read when ours is not set. */
  readonly alsoEnvironment?: readonly string[]
  /** Each of its environment variables has a twin that ends in _FILE and names a file with the value: how containers are handed secrets. */
  readonly orFile?: true
}
