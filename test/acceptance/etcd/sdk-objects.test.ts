// needs: etcd
/** What sdk-objects.test.ts asks of buckets, over metadata in etcd. The long form of all of them: npm run etcd-acceptance -- s3. */
import { keepMetadataInEtcd } from '../../support/metadata-switch.ts'

keepMetadataInEtcd()
await import('../s3/sdk-objects.test.ts')
