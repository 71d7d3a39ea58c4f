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
$box mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root
for directory in proc sys dev; do
  $box mkdir -p "/root/$directory"
  $box mount --move "/$directory" "/root/$directory"
done
$box mkdir -p /root/dev/shm /root/dev/pts /root/guest-share
$box mount -t tmpfs tmpfs /root/dev/shm
$box mount -t devpts devpts /root/dev/pts
$box mount -t 9p -o "$options" share /root/guest-share
$box ln -s /proc/self/fd /root/dev/fd
# guest.ts waits for this line.
echo 'guest: up'
$box chroot /root /bin/sh /guest-share/start
echo "$?" >/root/guest-share/ended
$box sync
$box poweroff -f
