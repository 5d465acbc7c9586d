#!/bin/bash
# The very commands that a satellite runs on each of the two nodes for a replicated volume, and those that remove it:
# create-volume.sh create|delete NAME MINOR PORT thin|group. In a thin pool both replicas are equal from the start;
# in a volume group n2's syncs from n1's, and is not waited for. Run on n1 and n2 at once.
set -euo pipefail
action=$1 name=$2 minor=$3 port=$4 kind=$5
device=/dev/vg0/$name
file=/etc/drbd.d/$name.res
export DM_DISABLE_UDEV=1 LC_ALL=C

case $(uname -n) in
n1) here=n1 address=10.77.0.1 there=n2 peer=10.77.0.2 ;;
n2) here=n2 address=10.77.0.2 there=n1 peer=10.77.0.1 ;;
esac
case $kind in
thin) sectors=2097152 ;;
group) sectors=524288 ;;
esac

# Ends when the kernel has reported the words, without polling.
wait_for() { grep -q -m1 -E "$1" < <(exec timeout 60 drbdsetup events2 --statistics "$name" 2>/dev/null); }

case $action in
create)
    if [ "$kind" = thin ]; then
        lvcreate -y --type thin -V 1028M -n "$name" --addtag by-hand --thinpool vg0/thin >/dev/null
    else
        lvcreate -y --type linear -Wy -Zy -L 260M -n "$name" --addtag by-hand --addtag by-hand-unwiped vg0 >/dev/null
        # Where the metadata will be: what lies there may be that of an earlier volume.
        blkdiscard --zeroout --offset $((259 << 20)) --length $((1 << 20)) "$device"
        lvchange --deltag by-hand-unwiped "vg0/$name" >/dev/null
    fi
    drbdmeta --force "$minor" v08 "$device" internal create-md >/dev/null 2>&1
    if [ "$kind/$here" != group/n2 ]; then
        # Whoever starts from this generation is complete; two who do are equal.
        cat >"/run/$name.day0" <<END
version "v08";
uuid {
    0x123456789ABCDEF0; 0x0000000000000000; 0x0000000000000000; 0x0000000000000000;
    flags 0x00000091;
}
la-size-sect $sectors;
bm-byte-per-bit 4096;
device-uuid 0x0000000000000000;
la-peer-max-bio-size 0;
al-stripes 1;
al-stripe-size-4k 8;
bm { }
END
        drbdmeta --force "$minor" v08 "$device" internal restore-md "/run/$name.day0" >/dev/null 2>&1
        rm "/run/$name.day0"
    fi
    cat >"$file" <<END
resource "$name" {
    options { on-no-data-accessible suspend-io; }
    net { protocol C; ping-int 2; connect-int 2; timeout 15; ping-timeout 5; cram-hmac-alg sha1; shared-secret by-hand; }
    disk { fencing resource-and-stonith; on-io-error detach; size ${sectors}s; }
    volume 0 { device minor $minor; disk "$device"; meta-disk internal; }
    on $here { address ipv4 $address:$port; }
    on $there { address ipv4 $peer:$port; }
}
END
    drbdadm -c "$file" sh-nop
    drbdsetup new-resource "$name" --on-no-data-accessible=suspend-io
    drbdsetup new-minor "$name" "$minor" 0
    drbdsetup attach "$minor" "$device" "$device" internal --size=${sectors}s \
        --fencing=resource-and-stonith --on-io-error=detach
    drbdsetup connect "$name" "ipv4:$address:$port" "ipv4:$peer:$port" --protocol=C --ping-int=2 \
        --connect-int=2 --timeout=15 --ping-timeout=5 --cram-hmac-alg=sha1 --shared-secret=by-hand
    if [ "$kind/$here" = group/n1 ]; then wait_for 'peer-disk:Inconsistent'; else wait_for 'peer-disk:UpToDate'; fi
    ;;
delete)
    drbdsetup down "$name"
    rm "$file"
    lvremove -y --select 'lv_tags=by-hand' vg0 >/dev/null
    ;;
esac
