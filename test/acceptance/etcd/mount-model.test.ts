// needs: etcd python3
/** The model test of the mount, over metadata in etcd. The long form of all of them: npm run etcd-acceptance -- mount. */
import { keepMetadataInEtcd } from '../../support/metadata-switch.ts'

keepMetadataInEtcd()
await import('../fuse/mount-model.test.ts')
