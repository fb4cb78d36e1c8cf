#!/usr/bin/env bash
# A place for the book's commands, where they neither see nor touch the machine's own containers: mounts, network, names, processes
# and host name of its own, empty /var/lib/onggi and /run/onggi, and homes that are gone afterwards. Needs root.
#
#   lane.sh BIN              an interactive shell of root in it; `su-student` becomes an ordinary user
#   lane.sh BIN COMMAND…     one command in it
#
# BIN is the folder with onggi and the steps (target/debug). The book's checker runs the blocks of a chapter through this.
set -euo pipefail
if [[ ${1:-} != --inside ]]; then
    bin=$(realpath "$1")
    shift
    home=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
    scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/onggi-lane-XXXXXX")
    trap 'rm -rf --one-file-system "$scratch"' EXIT
    unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc --propagation private \
        bash "${BASH_SOURCE[0]}" --inside "$bin" "$home" "$scratch" "$@"
    exit
fi
shift
bin=$1 home=$2 scratch=$3
shift 3
mkdir -p "$scratch"/{lib,root,student,tmp} /var/lib/onggi /run/onggi /home/student
# Names first: what is hidden below can't be bound any more.
printf 'root:x:0:0:root:/root:/bin/bash\nstudent:x:1000:1000:student:/home/student:/bin/bash\n' >"$scratch/passwd"
printf 'root:x:0:\nstudent:x:1000:\n' >"$scratch/group"
printf 'student:100000:65536\n' >"$scratch/subid"
printf '127.0.0.1 localhost laptop\n::1 localhost\n' >"$scratch/hosts"
mkdir -p "$scratch"/root/onggi "$scratch"/student/onggi
for file in passwd group hosts; do mount --bind "$scratch/$file" /etc/$file; done
for file in subuid subgid; do
    [[ -e /etc/$file ]] || : >/etc/$file
    mount --bind "$scratch/subid" /etc/$file
done
chown 1000:1000 "$scratch"/student "$scratch"/student/onggi
chmod 711 "$scratch"
chmod 1777 "$scratch/tmp"
mount --bind -o ro "$home" "$scratch/root/onggi"
mount --bind -o ro "$home" "$scratch/student/onggi"
mount --bind "$bin" /usr/local/bin
mount --bind "$scratch/lib" /var/lib/onggi
mount -t tmpfs -o mode=755 run-onggi /run/onggi
mkdir -p /run/user /run/netns /run/onggi-steps /etc/onggi
mount -t tmpfs -o mode=755 run-netns /run/netns
mount -t tmpfs -o mode=700 run-steps /run/onggi-steps
mount -t tmpfs -o mode=755 etc-onggi /etc/onggi
mount -t tmpfs -o mode=755 run-user /run/user
install -d -o 1000 -g 1000 -m 700 /run/user/1000
mount --rbind "$scratch/student" /home/student
mount --rbind "$scratch/root" /root
mount --rbind "$scratch/tmp" /tmp
hostname laptop
ip link set lo up
cat >/tmp/su-student <<'S'
#!/bin/sh
# An ordinary user, as after a login.
cd /home/student
exec env -i HOME=/home/student USER=student LOGNAME=student PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin TERM="${TERM:-dumb}" \
    LC_ALL=C.UTF-8 XDG_RUNTIME_DIR=/run/user/1000 setpriv --reuid 1000 --regid 1000 --clear-groups "${@:-bash}"
S
chmod 755 /tmp/su-student
cd /root
export HOME=/root USER=root LOGNAME=root PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/tmp LC_ALL=C.UTF-8
unset XDG_RUNTIME_DIR ONGGI_ROOT SUDO_UID
# This bash is process 1 here, and stays: it takes the exit status of monitors, which outlive their commands.
if (($#)); then "$@"; else bash --norc -i; fi
