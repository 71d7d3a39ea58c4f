import { startLoad } from './load/load.ts'
import { startBareServer } from './bare/bare.ts'
import { readFileSync } from 'node:fs'
const load = startLoad(), bare = await startBareServer()
const cred={accessKey:'AKX',secretKey:'s'}
const cpu=(pid:number)=>{const f=readFileSync(`/proc/${pid}/stat`,'utf8').split(') ')[1]!.split(' ');return (Number(f[11])+Number(f[12]))*10}
for (const [m,path,body,c] of [['GET','/b/4096',0,32],['PUT','/b/#',4096,64]] as const) for(let i=0;i<3;i++){
 const c0=cpu(bare.pid)
 const r=await load.run({origin:bare.origin,credentials:cred,request:{method:m,path,bodyBytes:body},keys:m==='PUT'?20000:1,connections:c,end:{warmupSeconds:.5,seconds:2}})
 console.log(m,path,(r.requests/r.seconds).toFixed(0),'req/s',(r.bytes/2**20/r.seconds).toFixed(0),'MiB/s', r.latencyMs, 'server cpu ms', cpu(bare.pid)-c0)
}
const r=await load.run({origin:bare.origin,credentials:cred,request:{method:'PUT',path:'/b/large',bodyBytes:64<<20,unsignedPayload:true},keys:1,connections:1,end:{requests:8}})
console.log('64M', r)
load.stop(); bare.stop()
