/**
 * The namespace as files, bound to one context: what the store's port asks for (names, nodes, links, attributes). Each method is
 * one transaction or one read; where to look: directory.ts for how names are found, links.ts for what becomes of inodes,
 * posix-part.ts for what a file system keeps of them.
 */
import type { InodeId } from '../../../common/ids.ts'
import type { Bound, NamespaceContext } from '../context.ts'
import type { CommitEvents, GoneEvents } from '../decoded-cache.ts'
import { Adoptions } from './adopt.ts'
import { fileAttribute, fileAttributeNames, removeFileAttribute, setFileAttribute } from './attributes.ts'
import { changeFile } from './change.ts'
import { describeFile } from './describe.ts'
import { cloneRange } from './contents-clone.ts'
import { compactFile, fragmentedFiles, planCompaction, settleCompaction } from './contents-compact.ts'
import { publishFile } from './contents-publish.ts'
import { fileExtents, seekFile } from './contents-read.ts'
import { fileEntries } from './entries.ts'
import { keyEntries } from './key-entries.ts'
import { findKey } from './key-find.ts'
import { fileCount } from './file-count.ts'
import { linkFile } from './link.ts'
import { fileNode, findFile, keyOf, linkTarget, parentOf } from './lookup.ts'
import { makeDirectory, makeFile } from './make.ts'
import { dropFile, orphanedFiles, removeDirectory, removeFile } from './remove.ts'
import { renameFile } from './rename.ts'
import { createLocks } from '../locks/lock-rows.ts'
import type { SharedFileLocks } from '../../../common/file-locks.ts'
import type { FileChange } from '../../../common/file-model.ts'
import { onFileChanges } from './watch.ts'

export interface Files {
  readonly isShared: boolean
  readonly fileNode: Bound<typeof fileNode>
  readonly findFile: Bound<typeof findFile>
  readonly fileEntries: Bound<typeof fileEntries>
  readonly parentOf: Bound<typeof parentOf>
  readonly makeFile: Bound<typeof makeFile>
  readonly makeDirectory: Bound<typeof makeDirectory>
  readonly linkFile: Bound<typeof linkFile>
  readonly removeFile: Bound<typeof removeFile>
  readonly removeDirectory: Bound<typeof removeDirectory>
  readonly renameFile: Bound<typeof renameFile>
  readonly dropFile: Bound<typeof dropFile>
  /**
   * From now on asked when an inode loses its last name, in the transaction (so perhaps more than once), whoever takes it: one that
   * is open stays until `dropFile`.
   */
  readonly keepFiles: (isOpen: (inode: InodeId) => boolean) => void
  readonly orphanedFiles: Bound<typeof orphanedFiles>
  readonly changeFile: Bound<typeof changeFile>
  readonly publishFile: Bound<typeof publishFile>
  readonly cloneRange: Bound<typeof cloneRange>
  readonly fragmentedFiles: Bound<typeof fragmentedFiles>
  readonly planCompaction: Bound<typeof planCompaction>
  readonly compactFile: Bound<typeof compactFile>
  readonly settleCompaction: Bound<typeof settleCompaction>
  readonly fileExtents: Bound<typeof fileExtents>
  readonly seekFile: Bound<typeof seekFile>
  readonly fileCount: Bound<typeof fileCount>
  readonly linkTarget: Bound<typeof linkTarget>
  readonly fileAttribute: Bound<typeof fileAttribute>
  readonly fileAttributeNames: Bound<typeof fileAttributeNames>
  readonly setFileAttribute: Bound<typeof setFileAttribute>
  readonly removeFileAttribute: Bound<typeof removeFileAttribute>
  readonly onFileChanges: (listener: (changes: readonly FileChange[]) => void) => () => void
  readonly keyOf: Bound<typeof keyOf>
  readonly findKey: Bound<typeof findKey>
  readonly keyEntries: Bound<typeof keyEntries>
  readonly describeFile: Bound<typeof describeFile>
  /** Locks that the mounts of all nodes see; where the store is not shared a mount keeps its own. */
  readonly locks: SharedFileLocks | undefined
}

export function createFiles(context: NamespaceContext, events: Partial<CommitEvents & GoneEvents>): Files {
  const adoptions = context.store.isShared ? new Adoptions(context, events) : undefined
  if (adoptions) context.heldBack = () => adoptions.heldBack()
  const bind = <Rest extends unknown[], Value>(
    operation: (context: NamespaceContext, ...rest: Rest) => Promise<Value>,
  ): ((...rest: Rest) => Promise<Value>) =>
    adoptions ? (...rest) => adoptions.whileKept(() => operation(context, ...rest)) : operation.bind(undefined, context)
  return {
    isShared: context.store.isShared === true,
    fileNode: bind(fileNode),
    findFile: bind(findFile),
    fileEntries: bind(fileEntries),
    parentOf: bind(parentOf),
    makeFile: bind(makeFile),
    makeDirectory: bind(makeDirectory),
    linkFile: bind(linkFile),
    removeFile: bind(removeFile),
    removeDirectory: bind(removeDirectory),
    renameFile: bind(renameFile),
    dropFile: (id) => {
      const drop = (): ReturnType<typeof dropFile> => dropFile(context, id)
      return adoptions ? adoptions.whileDropping(id, drop) : drop()
    },
    keepFiles: (isOpen) => {
      context.keepInode = isOpen
    },
    orphanedFiles: bind(orphanedFiles),
    changeFile: bind(changeFile),
    publishFile: bind(publishFile),
    cloneRange: bind(cloneRange),
    fragmentedFiles: bind(fragmentedFiles),
    planCompaction: bind(planCompaction),
    compactFile: bind(compactFile),
    settleCompaction: bind(settleCompaction),
    fileExtents: bind(fileExtents),
    seekFile: bind(seekFile),
    fileCount: bind(fileCount),
    linkTarget: bind(linkTarget),
    fileAttribute: bind(fileAttribute),
    fileAttributeNames: bind(fileAttributeNames),
    setFileAttribute: bind(setFileAttribute),
    removeFileAttribute: bind(removeFileAttribute),
    onFileChanges: (listener) => onFileChanges(events, listener),
    keyOf: bind(keyOf),
    findKey: bind(findKey),
    keyEntries: bind(keyEntries),
    describeFile: bind(describeFile),
    locks: context.store.isShared ? createLocks(context, events) : undefined,
  }
}
