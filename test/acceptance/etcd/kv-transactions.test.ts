// needs: etcd curl
/** What transactions.test.ts asks of the KV door, over metadata in etcd. The long form of all of them: npm run etcd-acceptance -- kv. */
import { keepMetadataInEtcd } from '../../support/metadata-switch.ts'

keepMetadataInEtcd()
await import('../kv/transactions.test.ts')
