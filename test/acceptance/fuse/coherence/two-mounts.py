"""What a descriptor of one mount sees of what a descriptor of another mount of the same gateway writes.

`two-mounts.py DIRECTORY OTHER`: the same directory of a bucket through both mounts. Prints a line for each expectation.
"""

import os
import sys
import time

HERE, THERE = sys.argv[1:3]
# The kernel is told from another thread.
SEEN_SECONDS_MAX = 10


def expect(what, see, expected):
    deadline = time.monotonic() + SEEN_SECONDS_MAX
    while (seen := see()) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    print(f"{what}: {'as expected' if seen == expected else f'{seen[:1]!r} and so on, {len(seen)} bytes'}")


def content(descriptor):
    """As long as the descriptor says that the file is."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def content_of_new_open(path):
    """As long as stat says."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, os.stat(path).st_size, 0)
    finally:
        os.close(descriptor)


def made(name, old):
    """A descriptor here that has read all pages, the path here and the path there."""
    here, there = os.path.join(HERE, name), os.path.join(THERE, name)
    with open(here, "wb") as file:
        file.write(old)
    held = os.open(here, os.O_RDWR)
    expect(f"{name}, before", lambda: content(held), old)
    return held, here, there


def closed_there():
    old, new = b"a" * 300_000, b"b" * 300_000
    held, here, there = made("closed", old)
    with open(there, "r+b", buffering=0) as file:
        assert file.write(new) == len(new)
    expect("closed, by the descriptor", lambda: content(held), new)
    expect("closed, by a new open", lambda: content_of_new_open(here), new)
    os.close(held)


def synced_here(name, length):
    """At another size the kernel drops its pages by itself, so one of the old size says more."""
    old, new = b"a" * 200_000, b"c" * length
    held, here, there = made(name, old)
    writing = os.open(there, os.O_RDWR)
    assert os.pwrite(writing, new, 0) == len(new)
    os.fsync(held)
    expect(f"{name}, by the descriptor", lambda: content(held), new)
    expect(f"{name}, by a new open", lambda: content_of_new_open(here), new)
    os.close(held)
    os.close(writing)


closed_there()
synced_here("synced", 200_000)
synced_here("synced and longer", 300_000)
