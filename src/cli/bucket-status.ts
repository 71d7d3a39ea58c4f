/** `tidegate bucket status`: all attached buckets in a table, or one at length. */
import { onlyNames, parseArguments } from './arguments.ts'
import {
  attachmentPath,
  ATTACHMENTS_PATH,
  attachmentsText,
  attachmentText,
  type ShownAttachment,
} from './bucket-text.ts'
import type { CliContext, ExitCode } from './command.ts'
import { connect, CONNECTION_OPTIONS } from './connection.ts'

export async function bucketStatus(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  const gateway = connect(values, context.env)
  const isJson = values.json === true
  if (positionals.length === 0) {
    const response = await gateway.send({ method: 'GET', path: ATTACHMENTS_PATH })
    const { attachments } = (await response.json()) as { readonly attachments: readonly ShownAttachment[] }
    context.stdout.write(isJson ? `${JSON.stringify(attachments, undefined, 2)}\n` : attachmentsText(attachments))
    return 0
  }
  const [bucket] = onlyNames(positionals, 'the name of the bucket')
  const response = await gateway.send({ method: 'GET', path: attachmentPath(bucket) })
  const shown = (await response.json()) as ShownAttachment
  context.stdout.write(isJson ? `${JSON.stringify(shown, undefined, 2)}\n` : attachmentText(shown))
  return 0
}
