import { didYouMean } from '../config/nearest.ts'
import { UsageError } from './command.ts'
import type { Command } from './command.ts'

/** By name, in the order in which they are listed; each says how it is loaded. */
export type Commands = Readonly<Record<string, () => Promise<Command>>>

/** @throws UsageError */
export async function findCommand(commands: Commands, name: string): Promise<Command> {
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (load === undefined) throw new UsageError(`unknown command ${name}${didYouMean(name, Object.keys(commands))}`)
  return await load()
}

export function commandHelp(command: Command): string {
  const details = command.details()
  return (
    `usage: tidegate ${command.name} ${command.usage}`.trimEnd() +
    `\n\n${command.summary}\n${details === '' ? '' : `\n${details}`}`
  )
}

export async function overview(commands: Commands): Promise<string> {
  const loaded = await Promise.all(Object.values(commands).map((load) => load()))
  const width = Math.max(...loaded.map((command) => command.name.length))
  const list = loaded.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}\n`).join('')
  return `usage: tidegate COMMAND [OPTIONS]\n\n${list}\ntidegate help COMMAND says more.\n`
}

export function helpCommand(commands: Commands): Command {
  return {
    name: 'help',
    usage: '[COMMAND]',
    summary: 'say how a command is used',
    details: () => '',
    async run([name, extra], context) {
      if (extra !== undefined) throw new UsageError(`help takes one command, not also ${extra}`)
      const text = name === undefined ? await overview(commands) : commandHelp(await findCommand(commands, name))
      context.stdout.write(text)
      return 0
    },
  }
}
