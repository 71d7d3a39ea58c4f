/** A process that keeps a bound one, to be killed: prints the id of that. */
import { BoundProcess } from '../../../../../src/meta/raft/member/bound-process.ts'
import type { Bond } from '../../../../../src/meta/raft/member/bound-process.ts'

const child = new BoundProcess('/bin/sleep', ['1000'], process.argv[2] as Bond)
process.stdout.write(`${await child.pid()}\n`)
await child.ended
