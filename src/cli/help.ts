import { didYouMean } from '../config/nearest.ts'
import { UsageError } from './command.ts'
import type { Command } from './command.ts'

export function commandNames(commands: readonly Command[]): string[] {
  return commands.map((command) => command.name)
}

/** @throws UsageError */
export function findCommand(commands: readonly Command[], name: string): Command {
  const found = commands.find((command) => command.name === name)
  if (found === undefined) throw new UsageError(`unknown command ${name}${didYouMean(name, commandNames(commands))}`)
  return found
}

export function commandHelp(command: Command): string {
  const details = command.details()
  return (
    `usage: tidegate ${command.name} ${command.usage}`.trimEnd() +
    `\n\n${command.summary}\n${details === '' ? '' : `\n${details}`}`
  )
}

export function overview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => command.name.length))
  const list = commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}\n`).join('')
  return `usage: tidegate COMMAND [OPTIONS]\n\n${list}\ntidegate help COMMAND says more.\n`
}

/** `commands` is asked when it runs: the list holds this command too. */
export function helpCommand(commands: () => readonly Command[]): Command {
  return {
    name: 'help',
    usage: '[COMMAND]',
    summary: 'say how a command is used',
    details: () => '',
    run([name, extra], context) {
      if (extra !== undefined) throw new UsageError(`help takes one command, not also ${extra}`)
      context.stdout.write(name === undefined ? overview(commands()) : commandHelp(findCommand(commands(), name)))
      return Promise.resolve(0)
    },
  }
}
