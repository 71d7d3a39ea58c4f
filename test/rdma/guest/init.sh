#!/bin/busybox sh
# The first process of the guest, in its initramfs. The root file system becomes the machine's own, read-only, with all that is written going to memory.
box=/bin/busybox
$box mount -t proc proc /proc
$box mount -t sysfs sys /sys
$box mount -t devtmpfs dev /dev
for module in /modules/*; do
  $box insmod "$module" || echo "$module cannot be loaded"
done
options=trans=virtio,version=9p2000.L,msize=512000
# Nothing else writes what the guest reads, so it may keep what it has seen.
if ! $box mount -t 9p -o "$options,ro,cache=loose" root /lower; then
  echo 'the file system of the machine cannot be mounted'
  $box poweroff -f
fi
$box mount -t tmpfs tmpfs /upper
$box mkdir /upper/files /upper/work
$box mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /joined
for directory in proc sys dev; do
  $box mkdir -p "/joined/$directory"
  $box mount --move "/$directory" "/joined/$directory"
done
$box mkdir -p /joined/dev/shm /joined/dev/pts /joined/guest-share
$box mount -t tmpfs tmpfs /joined/dev/shm
$box mount -t devpts devpts /joined/dev/pts
$box mount -t 9p -o "$options" share /joined/guest-share
$box ln -s /proc/self/fd /joined/dev/fd
# guest.ts waits for this line.
echo 'guest: up'
$box chroot /joined /bin/sh /guest-share/start
echo "$?" >/joined/guest-share/ended
$box sync
$box poweroff -f
