#!/bin/sh
# Becomes process 1 of a lab host. Runs in fresh mount, UTS, IPC and PID namespaces (unshare(1)):
#     boot.sh NAME FOLDER
# FOLDER/disk is the host's disk: it survives a power cut. Everything else is gone with process 1.
set -eu
name=$1 folder=$2
root=$folder/root
mount --make-rprivate /
mount -t overlay "runbook-lab-$name" \
  -o "lowerdir=/,upperdir=$folder/disk/upper,workdir=$folder/disk/work" "$root"
mount -t proc proc "$root/proc"
for place in run tmp dev; do mount -t tmpfs -o mode=755,size=64m tmpfs "$root/$place"; done
chmod 1777 "$root/tmp"
# A /dev of its own: no disks in it.
for node in null zero full random urandom tty; do
  true >"$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/run/lock" "$root/run/sshd"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root/.outside"
cd "$root"
pivot_root . .outside
umount -l /.outside
hostname "$name"
cd /
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
  LANG=C.UTF-8 "RUNBOOK_LAB_HOST=$name" /bin/sh /etc/runbook-lab/init
