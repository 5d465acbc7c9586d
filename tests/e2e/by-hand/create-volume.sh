#!/bin/bash
# The commands that an administrator would type on each of the two nodes for a replicated volume without a
# first sync, and to remove it again: create-volume.sh create|delete NAME MINOR PORT. Run on n1 and n2 at once.
set -euo pipefail
action=$1 name=$2 minor=$3 port=$4
node=$(uname -n)
file=/etc/drbd.d/$name.res
export DM_DISABLE_UDEV=1 LC_ALL=C

# Ends when the kernel has reported the words, without polling.
wait_for() { grep -q -m1 -E "$1" < <(exec timeout 60 drbdsetup events2 --statistics "$name" 2>/dev/null); }

case $action in
create)
    lvcreate -y -V 1028M --thinpool hawser/thin -n "$name" >/dev/null
    cat >"$file" <<END
resource "$name" {
    net { protocol C; ping-int 2; connect-int 2; timeout 15; ping-timeout 5; }
    disk { size 2097152s; }
    volume 0 { device minor $minor; disk "/dev/hawser/$name"; meta-disk internal; }
    on n1 { address ipv4 10.77.0.1:$port; }
    on n2 { address ipv4 10.77.0.2:$port; }
}
END
    drbdadm create-md --force "$name" >/dev/null 2>&1
    drbdadm up "$name"
    wait_for 'connection:Connected'
    # One of the two starts the first generation, with nothing out of sync.
    [ "$node" != n1 ] || drbdadm -- --clear-bitmap new-current-uuid "$name/0"
    wait_for 'peer-disk:UpToDate'
    ;;
delete)
    drbdadm down "$name"
    lvremove -y "hawser/$name" >/dev/null
    rm "$file"
    ;;
esac
