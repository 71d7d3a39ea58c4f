// needs: etcd
/** The model test of listings over metadata in etcd. The long form: npm run etcd-acceptance -- model. */
import { keepMetadataInEtcd } from '../support/metadata-switch.ts'

keepMetadataInEtcd()
await import('./listing.test.ts')
