/**
 * What the engine's thread and the upload thread say to each other. Bytes of files never travel: commands name places in files. Each `send` and
 * `digest` is answered by any number of reports and then exactly once by its end: `answered`, `digested` or `failed`.
 */
import type { DigestKind } from './file-sender.ts'

/** A signed request, without its body. */
export interface RequestHead {
  readonly protocol: string
  readonly hostname: string
  readonly port: number | undefined
  readonly method: string
  /** With the query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

export interface PlaceInFile {
  readonly path: string
  readonly offset: number
  readonly bytes: number
}

export interface SendCommand {
  readonly kind: 'send'
  readonly id: number
  readonly head: RequestHead
  readonly place: PlaceInFile
  /** Asks before each chunk. */
  readonly isPaced: boolean
}

export interface DigestCommand {
  readonly kind: 'digest'
  readonly id: number
  readonly digest: DigestKind
  readonly place: PlaceInFile
}

export type UploadCommand =
  | SendCommand
  | DigestCommand
  /** The chunk that was asked for may go. */
  | { readonly kind: 'go'; readonly id: number }
  | { readonly kind: 'cancel'; readonly id: number }
  /** To be answered at once: the thread is alive. */
  | { readonly kind: 'ping' }

export interface SentAnswer {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

export type UploadEnd =
  | { readonly kind: 'answered'; readonly id: number; readonly answer: SentAnswer }
  | { readonly kind: 'digested'; readonly id: number; readonly text: string }
  | {
      readonly kind: 'failed'
      readonly id: number
      /** The file could not be read; else the connection failed, or it was given up. */
      readonly isFile: boolean
      readonly code: string | undefined
      readonly message: string
    }

export type UploadReport =
  | UploadEnd
  | { readonly kind: 'moved'; readonly id: number }
  | { readonly kind: 'wants'; readonly id: number; readonly bytes: number }
  | { readonly kind: 'pong' }
