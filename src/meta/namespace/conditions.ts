export * from '../../common/conditions.ts'
