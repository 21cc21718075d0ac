#!/bin/sh
# Makes pid 1 of new namespaces a systemd that has the files of this machine, and may change them: what it writes lies in memory.
# machine.py starts it, as `unshare … sh machine.sh FOLDER SOURCE`: SOURCE is seen as /usr/src/mailstore-bridge.
set -eu
layers="$1" source="$2"

mount -t tmpfs -o mode=755 tmpfs "$layers"
root="$layers/root"
mkdir "$layers/upper" "$layers/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" overlay "$root"
mkdir -p "$root/usr/src/mailstore-bridge" "$root/.old"
mount --bind "$source" "$root/usr/src/mailstore-bridge"

# The kernel's own file systems, as these namespaces see them.
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in run dev; do
    mount -t tmpfs -o mode=755 tmpfs "$root/$folder"
done
mkdir "$root/dev/shm"
for folder in tmp dev/shm; do
    mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"
done
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

# In a container these two may be mounts of their own.
for file in hosts resolv.conf; do
    rm -f "$root/etc/$file"
    cp "/etc/$file" "$root/etc/$file"
done
od -An -N16 -tx1 /dev/urandom | tr -d ' \n' > "$root/etc/machine-id"
cat > "$root/etc/systemd/system/machine.target" << 'UNIT'
[Unit]
Description=What the tests need
Requires=sysinit.target systemd-journald.service dbus.socket
After=sysinit.target systemd-journald.service dbus.socket
DefaultDependencies=no
UNIT

cd "$root"
pivot_root . .old
umount -l /.old
# systemd hands credentials over through mounts that units must see.
mount --make-rshared /
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=machine.target --log-target=journal
