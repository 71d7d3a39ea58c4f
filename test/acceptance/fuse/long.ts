/** `npm run mount-long`: the same tests with the sizes that they are meant for, which take minutes. */
export const isLong: boolean = process.env['MOUNT_TESTS'] === 'long'
