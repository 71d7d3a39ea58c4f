/** The AWS SDK's client, pointed at a gateway, with its own defaults wherever a test does not say otherwise. */
import { S3Client, S3ServiceException, type S3ClientConfig } from '@aws-sdk/client-s3'
import type { GatewayCredentials, GatewayDoors } from './gateway-process.ts'

export function sdkClient(gateway: GatewayDoors, options: S3ClientConfig & { as?: GatewayCredentials } = {}): S3Client {
  const { as = gateway.root, ...config } = options
  return new S3Client({
    endpoint: gateway.s3,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: as.accessKey, secretAccessKey: as.secretKey },
    maxAttempts: 1,
    ...config,
  })
}

/** Status and code of what a call is refused with: `403 AccessDenied`. `200` when it is not refused. */
export async function refusalOf(call: Promise<unknown>): Promise<string> {
  try {
    await call
    return '200'
  } catch (error) {
    if (!(error instanceof S3ServiceException)) throw error
    return `${error.$metadata.httpStatusCode} ${error.name}`
  }
}
