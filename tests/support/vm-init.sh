#!/bin/sh
# PID 1 of the test VM: makes of the packed files a machine as a student's looks to a container engine (one cgroup v2
# hierarchy, the usual mounts, a user without rights), runs one command in it, tells its exit code and stops.
# busybox's sh. What is said here goes to the first serial port (the console); the command speaks on the second.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root ONGGI_IN_VM=1

# pivot_root(2) refuses to leave the initramfs: it is the mount below all others. A usual machine left it in its own initramfs,
# and so do we, onto a tmpfs; a test that asks for the refusal has us stay.
if [ "$1" != moved ] && [ ! -e /vm/stay-on-initramfs ]; then
    mkdir /root-on-tmpfs
    mount -t tmpfs -o mode=755,size=80% root /root-on-tmpfs
    for name in /*; do
        [ "$name" = /root-on-tmpfs ] || [ "$name" = /dev ] || cp -a "$name" /root-on-tmpfs/
    done
    mkdir /root-on-tmpfs/dev
    mknod /root-on-tmpfs/dev/console c 5 1
    exec switch_root /root-on-tmpfs /init moved
fi

mkdir -p /proc /sys /dev /run /tmp /root /home /var/tmp
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,mode=755 devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
mount -t mqueue -o nosuid,nodev,noexec mqueue /dev/mqueue
ln -sfn /proc/self/fd /dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -sfn "/proc/self/fd/${n%:*}" "/dev/${n#*:}"; done
mount -t tmpfs -o nosuid,nodev,mode=755 run /run
# No mount over /tmp: the packed files keep the paths that they have outside, and a work tree may be in there.
chmod 1777 /tmp /var/tmp
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup

# systemd makes every mount shared, and runtimes have to cope with just that.
mount --make-rshared /

while read -r module; do
    insmod "$module" || echo "vm-init: insmod $module failed"
done </vm/modules

hostname onggi-vm
ip link set lo up
mkdir -p /home/student /run/user/1000
chown 1000:1000 /home/student /run/user/1000
chmod 700 /run/user/1000

# Bytes as they are: no CR before a newline, no echo.
stty -F /dev/ttyS1 raw -echo
exec 3>/dev/ttyS1
read -r marker </vm/marker
sh /vm/command </dev/null >&3 2>&3 3>&-
code=$?
# On a line of its own, even when the command's last one has no end.
printf '\n%s %s\n' "$marker" "$code" >&3
# Closing the port waits until it has said all.
exec 3>&-
reboot -f
