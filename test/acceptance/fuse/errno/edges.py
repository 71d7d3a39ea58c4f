"""System calls at the edges of what they allow, one line each: the call's name and what it answered.

Run in an empty directory, by root (the calls of other users are made by children that give root up). The same script in a
directory of the local disk says what is right.
"""
import errno
import os
import stat

OTHER = 65533
ANOTHER = 65532


def answer(call, *args, **named):
    try:
        result = call(*args, **named)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "ok" if result is None else str(result)


def show(name, call, *args, **named):
    print(f"{name}: {answer(call, *args, **named)}")


def by(uid, call, *args, **named):
    """What the call answers somebody else."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.write(writing, answer(call, *args, **named).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def touch(path, mode=0o644):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode))


def opened(path, flags, mode=0o644):
    os.close(os.open(path, flags, mode))


def kind(path):
    return stat.filemode(os.lstat(path).st_mode)


def symlinks():
    os.symlink("loop-b", "loop-a")
    os.symlink("loop-a", "loop-b")
    os.symlink("self", "self")
    show("open a loop of symlinks", opened, "loop-a", os.O_RDONLY)
    show("stat a loop of symlinks", lambda: kind(os.stat("loop-a")))
    show("lstat a loop of symlinks", lambda: kind("loop-a"))
    show("open through a symlink to itself", opened, "self/x", os.O_RDONLY)
    show("open a symlink with O_NOFOLLOW", opened, "self", os.O_RDONLY | os.O_NOFOLLOW)
    touch("end")
    before = "end"
    for step in range(41):
        os.symlink(before, f"chain-{step}")
        before = f"chain-{step}"
    show("40 symlinks in a row", opened, "chain-39", os.O_RDONLY)
    show("41 symlinks in a row", opened, "chain-40", os.O_RDONLY)
    show("make a file behind a dangling symlink", lambda: (os.symlink("new-file", "dangling"), opened("dangling", os.O_CREAT | os.O_WRONLY), kind("new-file"))[2])
    show("O_CREAT|O_EXCL on a symlink", opened, "dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    show("readlink of a file", os.readlink, "end")
    show("symlink over a file", os.symlink, "x", "end")
    show("symlink with an empty target", os.symlink, "", "empty-target")
    show("symlink with a target of 4095 bytes", os.symlink, "t" * 4095, "long-target")
    show("length of that target", lambda: os.lstat("long-target").st_size)
    show("symlink with a target of 4096 bytes", os.symlink, "t" * 4096, "longer-target")


def names():
    for length in (255, 256):
        name = chr(0x61) * length
        show(f"make a file, {length} bytes", touch, name)
        show(f"stat, {length} bytes", lambda: kind(name))
        show(f"make a directory, {length} bytes", os.mkdir, "d" * length)
        show(f"symlink, {length} bytes", os.symlink, "x", "s" * length)
        show(f"fifo, {length} bytes", os.mkfifo, "p" * length)
        show(f"link, {length} bytes", os.link, "end", "l" * length)
        show(f"rename, {length} bytes", os.rename, "s" * length, "r" * length)
        show(f"unlink, {length} bytes", os.unlink, name)
    show("a name of 255 bytes in UTF-8", touch, "ü" * 127 + "x")
    show("a name of 256 bytes in UTF-8", touch, "ü" * 128)
    show("the empty name", touch, "")
    show("a name with a newline", touch, "new\nline")
    show("a name with a backslash", touch, "back\\slash")
    for name in (".", ".."):
        show(f"mkdir {name}", os.mkdir, name)
        show(f"rmdir {name}", os.rmdir, name)
        show(f"unlink {name}", os.unlink, name)
        show(f"rename {name}", os.rename, name, "elsewhere")
        show(f"rename to {name}", os.rename, "end", name)
        show(f"link to {name}", os.link, "end", name)
        show(f"O_CREAT {name}", opened, name, os.O_CREAT | os.O_WRONLY)
    show("stat a name that is not UTF-8", lambda: kind(b"no\xff"))


def paths():
    home = os.getcwd()
    top = "deep".ljust(34, "-")
    os.mkdir(top)
    os.chdir(top)
    for _ in range(15):
        os.mkdir("d" * 254)
        os.chdir("d" * 254)
    os.chdir(home)
    # What is missing to 4095 is the last name.
    long = "/".join([top] + ["d" * 254] * 15)
    fill = 4095 - len(long) - 1
    show("make a file, path of 4095 bytes", touch, f"{long}/{'f' * fill}")
    show("stat, path of 4095 bytes", lambda: kind(f"{long}/{'f' * fill}"))
    show("rename, paths of 4095 bytes", os.rename, f"{long}/{'f' * fill}", f"{long}/{'g' * fill}")
    show("link, path of 4095 bytes", os.link, "end", f"{long}/{'l' * fill}")
    show("make a directory, path of 4095 bytes", os.mkdir, f"{long}/{'m' * fill}")
    show("make a file, path of 4096 bytes", touch, f"{long}/{'f' * (fill + 1)}")
    show("stat, path of 4096 bytes", lambda: kind(f"{long}/{'f' * (fill + 1)}"))
    os.chdir(f"{long}/{'m' * fill}")
    show("deeper than any path", os.mkdir, "below")
    show("read what lies there", lambda: (touch("below/file"), os.listdir("below"))[1])
    os.chdir(home)


def slashes():
    os.mkdir("dir")
    os.symlink("dir", "to-dir")
    show("open a file with a slash", opened, "end/", os.O_RDONLY)
    show("stat a file with a slash", lambda: kind("end/"))
    show("make a file with a slash", opened, "new/", os.O_CREAT | os.O_WRONLY)
    show("mkdir with a slash", os.mkdir, "made/")
    show("rmdir with a slash", os.rmdir, "made/")
    show("unlink a file with a slash", os.unlink, "end/")
    show("rename a file to a name with a slash", os.rename, "end", "moved/")
    show("rename a directory to a name with a slash", os.rename, "dir", "moved/")
    show("and back", os.rename, "moved/", "dir/")
    show("symlink at a name with a slash", os.symlink, "x", "sym/")
    show("lstat a symlink to a directory with a slash", lambda: kind("to-dir/"))
    show("rmdir a symlink to a directory", os.rmdir, "to-dir")
    show("rmdir a symlink to a directory, with a slash", os.rmdir, "to-dir/")
    show("a file as a directory", touch, "end/x")


def renames():
    os.makedirs("outer/inner")
    os.link("end", "same")
    touch("other")
    os.mkdir("empty")
    show("rename a file over itself", os.rename, "end", "end")
    show("rename a file over another link to it", os.rename, "end", "same")
    show("which both stay", lambda: (kind("end"), kind("same"))[0])
    show("rename a directory over itself", os.rename, "outer", "outer")
    show("rename a directory into itself", os.rename, "outer", "outer/x")
    show("rename a directory into its sub-directory", os.rename, "outer", "outer/inner/x")
    show("rename a sub-directory over its parent", os.rename, "outer/inner", "outer")
    show("rename a file over a directory", os.rename, "other", "empty")
    show("rename a directory over a file", os.rename, "empty", "other")
    show("rename a directory over a full one", os.rename, "empty", "outer")
    show("rename a directory over an empty one", os.rename, "outer/inner", "empty")
    show("rename what is not there", os.rename, "absent", "other")
    show("rename to where nothing is", os.rename, "other", "absent/x")
    show("rename through a file", os.rename, "other", "end/x")


def removal():
    os.makedirs("full/x")
    show("rmdir a full directory", os.rmdir, "full")
    show("rmdir a file", os.rmdir, "end")
    show("rmdir what is not there", os.rmdir, "absent")
    show("unlink a directory", os.unlink, "full")
    show("unlink what is not there", os.unlink, "absent")
    show("link a directory", os.link, "full", "full-link")
    show("link over a file", os.link, "end", "other")
    show("link what is not there", os.link, "absent", "x")
    show("mkdir over a file", os.mkdir, "end")
    show("mkdir over a directory", os.mkdir, "full")
    show("mkdir where nothing is", os.mkdir, "absent/x")
    os.mkdir("doomed")
    handle = os.open("doomed", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir("doomed")
    show("make a file in a removed directory", lambda: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    show("list a removed directory", lambda: os.listdir(handle))
    os.close(handle)


def opening():
    show("open a directory to write", opened, "full", os.O_WRONLY)
    show("open a directory with O_CREAT", opened, "full", os.O_CREAT | os.O_RDONLY)
    show("open a directory with O_TRUNC", opened, "full", os.O_TRUNC | os.O_RDONLY)
    show("open O_DIRECTORY|O_CREAT, nothing there", opened, "odc", os.O_DIRECTORY | os.O_CREAT | os.O_RDONLY)
    show("open O_DIRECTORY|O_CREAT, a directory", opened, "full", os.O_DIRECTORY | os.O_CREAT | os.O_RDONLY)
    show("open a file with O_DIRECTORY", opened, "end", os.O_DIRECTORY)
    show("O_CREAT|O_EXCL on a file", opened, "end", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    directory = os.open("full", os.O_RDONLY)
    show("write to a directory", os.write, directory, b"x")
    show("read a directory", os.read, directory, 1)
    show("truncate a directory by its handle", os.ftruncate, directory, 0)
    os.close(directory)
    show("truncate a directory", os.truncate, "full", 0)
    with open("truncated", "wb") as file:
        file.write(b"0123456789")
    show("O_TRUNC with O_RDONLY", lambda: (opened("truncated", os.O_RDONLY | os.O_TRUNC), os.stat("truncated").st_size)[1])
    reader = os.open("end", os.O_RDONLY)
    show("write to what is open to read", os.write, reader, b"x")
    show("truncate what is open to read", os.ftruncate, reader, 0)
    os.close(reader)
    writer = os.open("end", os.O_WRONLY)
    show("read what is open to write", os.read, writer, 1)
    os.close(writer)


def offsets():
    handle = os.open("big", os.O_CREAT | os.O_RDWR, 0o644)
    most = 2**63 - 1
    show("seek to -1", os.lseek, handle, -1, os.SEEK_SET)
    show("seek to 2^63-1", os.lseek, handle, most, os.SEEK_SET)
    show("pread at 2^63-1", os.pread, handle, 1, most)
    show("pread at 2^50", os.pread, handle, 1, 2**50)
    for name, offset in (("2^63-1", most), ("2^63-2", most - 1), ("2^62", 2**62), ("2^53", 2**53), ("2^50", 2**50)):
        show(f"pwrite at {name}", os.pwrite, handle, b"x", offset)
        show(f"truncate to {name} + 1", lambda: os.ftruncate(handle, min(offset + 1, most)))
        show(f"allocate at {name}", os.posix_fallocate, handle, offset, 1)
    show("truncate by path to 2^63-1", os.truncate, "big", most)
    show("truncate to -1", os.ftruncate, handle, -1)
    show("seek for data beyond the end", os.lseek, handle, 1, os.SEEK_DATA)
    show("seek for a hole beyond the end", os.lseek, handle, 1, os.SEEK_HOLE)
    show("its size", lambda: os.fstat(handle).st_size)
    show("a hole of 1 TiB", lambda: (os.pwrite(handle, b"end", 2**40), os.pread(handle, 4, 2**40 - 1))[1])
    os.close(handle)
    os.unlink("big")


def permissions():
    os.mkdir("theirs", 0o755)
    os.chmod("theirs", 0o777)
    touch("theirs/file")
    os.chown("theirs/file", OTHER, OTHER)
    touch("theirs/secret", 0o600)
    os.mkdir("theirs/closed", 0o700)
    touch("theirs/closed/x")

    def said(name, uid, call, *args, **named):
        print(f"{name}: {by(uid, call, *args, **named)}")

    said("chmod by another", ANOTHER, os.chmod, "theirs/file", 0o666)
    said("chmod by the owner", OTHER, os.chmod, "theirs/file", 0o640)
    said("chown by another", ANOTHER, os.chown, "theirs/file", ANOTHER, -1)
    said("chown by the owner to another", OTHER, os.chown, "theirs/file", ANOTHER, -1)
    said("chown by the owner to himself", OTHER, os.chown, "theirs/file", OTHER, OTHER)
    said("chgrp by the owner to a group that is not his", OTHER, os.chown, "theirs/file", -1, ANOTHER)
    said("set-gid by the owner for a group that is not his", OTHER, lambda: (os.chmod("theirs/file", 0o2755), kind("theirs/file"))[1])
    os.chmod("theirs/file", 0o640)
    said("utimes to now by another", ANOTHER, os.utime, "theirs/file")
    said("utimes by another", ANOTHER, os.utime, "theirs/file", (1, 1))
    said("read by another", ANOTHER, opened, "theirs/file", os.O_RDONLY)
    said("write by another", ANOTHER, opened, "theirs/file", os.O_WRONLY)
    said("truncate by another", ANOTHER, os.truncate, "theirs/file", 0)
    said("read what is root's", OTHER, opened, "theirs/secret", os.O_RDONLY)
    said("stat in a closed directory", OTHER, lambda: kind("theirs/closed/x"))
    said("list a closed directory", OTHER, os.listdir, "theirs/closed")
    said("link what is another's", ANOTHER, lambda: os.access("theirs/file", os.R_OK))
    said("set an attribute by another", ANOTHER, os.setxattr, "theirs/file", "user.x", b"x")
    os.mkdir("sticky", 0o1777)
    os.chmod("sticky", 0o1777)
    for name in ("one", "two"):
        touch(f"sticky/{name}")
        os.chown(f"sticky/{name}", OTHER, OTHER)
    os.mkdir("sticky/dir")
    os.chown("sticky/dir", OTHER, OTHER)
    said("unlink in a sticky directory by another", ANOTHER, os.unlink, "sticky/one")
    said("rmdir in a sticky directory by another", ANOTHER, os.rmdir, "sticky/dir")
    said("rename out of a sticky directory by another", ANOTHER, os.rename, "sticky/one", "theirs/one")
    said("rename over in a sticky directory by another", ANOTHER, lambda: (touch("sticky/mine"), os.rename("sticky/mine", "sticky/two"))[1])
    said("unlink in a sticky directory by the owner", OTHER, os.unlink, "sticky/one")
    said("make in a directory of root's", OTHER, touch, "nothing")
    said("unlink in a directory of root's", OTHER, os.unlink, "theirs/../end")
    show("chmod sets the sticky bit of a file", lambda: (os.chmod("other", 0o1644), kind("other"))[1])


os.umask(0o022)
for part in (symlinks, names, paths, slashes, renames, removal, opening, offsets, permissions):
    part()
show("make a name that is not UTF-8", touch, b"no\xff")
show("mkdir of a name that is not UTF-8", os.mkdir, b"no\xfe")
show("rename to a name that is not UTF-8", os.rename, "end", b"no\xfd")
