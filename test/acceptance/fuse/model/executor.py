"""Does system calls in a directory of the mount, one a line of JSON on standard input, and answers each with a line.

An answer is {"value": ...}, or {"error": "ENOENT"} with the name of the errno. Descriptors and mappings are kept by the number that
the caller gives them. Bytes travel as base64. A process of its own, since whoever waits for a dead mount cannot be ended.
"""

import base64
import ctypes
import errno
import fcntl
import json
import mmap
import os
import stat
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
RENAME_FLAGS = {"replace": 0, "no-replace": 1, "exchange": 2}
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}

descriptors = {}
mappings = {}


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "")


def encoded(data):
    return base64.b64encode(data).decode()


def kind_of(mode):
    return KINDS[stat.S_IFMT(mode)]


def do_open(path, flags, handle, **_):
    bits = 0
    for name in flags:
        bits |= getattr(os, "O_" + name)
    descriptors[handle] = os.open(path, bits, 0o644)


def do_close(handle, **_):
    os.close(descriptors.pop(handle))


def do_read(handle, offset, length, **_):
    return encoded(os.pread(descriptors[handle], length, offset))


def do_write(handle, offset, data, **_):
    return os.pwrite(descriptors[handle], base64.b64decode(data), offset)


def do_append(handle, data, **_):
    os.lseek(descriptors[handle], 0, os.SEEK_END)
    return os.write(descriptors[handle], base64.b64decode(data))


def do_truncate(size, path=None, handle=None, **_):
    os.truncate(descriptors[handle] if path is None else path, size)


def do_punch(handle, offset, length, **_):
    checked(
        LIBC.fallocate(
            descriptors[handle], PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length)
        )
    )


def do_allocate(handle, offset, length, **_):
    checked(LIBC.fallocate(descriptors[handle], 0, ctypes.c_int64(offset), ctypes.c_int64(length)))


def do_copy(handle, offset, target, targetOffset, length, **_):
    return os.copy_file_range(
        descriptors[handle], descriptors[target], length, offset, targetOffset
    )


def do_seek(handle, offset, what, **_):
    return os.lseek(descriptors[handle], offset, os.SEEK_DATA if what == "data" else os.SEEK_HOLE)


def do_lock(handle, **_):
    """Takes the lock of the file and gives it up."""
    fcntl.flock(descriptors[handle], fcntl.LOCK_EX)
    fcntl.flock(descriptors[handle], fcntl.LOCK_UN)


def do_sync(handle, **_):
    os.fsync(descriptors[handle])


def do_publish(path, **_):
    """Writes back what is mapped or open anywhere, and publishes it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def do_map(handle, mapping, length, **_):
    mappings[mapping] = mmap.mmap(descriptors[handle], length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def do_mapRead(mapping, offset, length, **_):
    return encoded(mappings[mapping][offset : offset + length])


def do_mapWrite(mapping, offset, data, **_):
    data = base64.b64decode(data)
    mappings[mapping][offset : offset + len(data)] = data


def do_mapSync(mapping, **_):
    mappings[mapping].flush()


def do_unmap(mapping, **_):
    mappings.pop(mapping).close()


def do_makeDirectory(path, **_):
    os.mkdir(path)


def do_removeDirectory(path, **_):
    os.rmdir(path)


def do_unlink(path, **_):
    os.unlink(path)


def do_link(path, to, **_):
    os.link(path, to)


def do_symlink(path, target, **_):
    os.symlink(target, path)


def do_readLink(path, **_):
    return os.readlink(path)


def do_rename(path, to, mode, **_):
    checked(LIBC.renameat2(AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(to), RENAME_FLAGS[mode]))


def do_list(path, **_):
    with os.scandir(path) as entries:
        return sorted([entry.name, kind_of(entry.stat(follow_symlinks=False).st_mode)] for entry in entries)


def shown(status):
    kind = kind_of(status.st_mode)
    if kind == "directory":
        return {"kind": kind, "inode": status.st_ino}
    return {"kind": kind, "inode": status.st_ino, "size": status.st_size, "links": status.st_nlink}


def do_status(path=None, handle=None, **_):
    return shown(os.lstat(path) if handle is None else os.fstat(descriptors[handle]))


def do_setAttribute(path, name, data, mode, **_):
    flags = {"set": 0, "create": os.XATTR_CREATE, "replace": os.XATTR_REPLACE}[mode]
    os.setxattr(path, name, base64.b64decode(data), flags, follow_symlinks=False)


def do_attribute(path, name, **_):
    return encoded(os.getxattr(path, name, follow_symlinks=False))


def do_removeAttribute(path, name, **_):
    os.removexattr(path, name, follow_symlinks=False)


def do_attributes(path, **_):
    return sorted(os.listxattr(path, follow_symlinks=False))


def do_dropCaches(**_):
    with open("/proc/sys/vm/drop_caches", "w") as control:
        control.write("3")


def answer(request):
    try:
        return {"value": globals()["do_" + request.pop("do")](**request)}
    except OSError as error:
        return {"error": errno.errorcode[error.errno]}


os.chdir(sys.argv[1])
for line in sys.stdin:
    sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
    sys.stdout.flush()
