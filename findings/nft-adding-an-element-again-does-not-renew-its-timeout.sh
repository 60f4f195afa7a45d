#!/bin/bash
# Tool: nftables 1.0.6 (Debian 12's package nftables), the kernel's set elements with a timeout.
#
# People expect: adding an element that is there already, with the same timeout, starts its timeout anew, as it does in ipset.
# It does: `add element` succeeds and changes nothing: the element goes when its first timeout has passed. Deleting and adding it in one
#   transaction renews it, and at no moment is it missing.
# Why it matters here: an element with a timeout is a dead man's switch for packets that are held: who renews it by adding it again lets go
#   in the middle of the work, without an error.
#
# It works in a network namespace of its own (root).
set -euo pipefail
dir=$(mktemp -d)
cd "$dir"
name=finding-$$
trap 'ip netns delete "$name" 2>/dev/null; rm -rf "$dir"' EXIT
apt-get -qq -o APT::Sandbox::User=root download nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2
for f in *.deb; do dpkg -x "$f" .; done
nft() { ip netns exec "$name" env LD_LIBRARY_PATH="$dir/usr/lib/x86_64-linux-gnu" "$dir/usr/sbin/nft" "$@"; }
ip netns add "$name"
nft --version
nft add table inet t
nft 'add set inet t s { type inet_service; flags timeout; }'
expires() { nft -j list set inet t s | grep -oE '"expires": [0-9]+' | grep -oE '[0-9]+'; }
left() { e=$(expires); echo "${e:-0}"; }

nft 'add element inet t s { 80 timeout 20s }'
sleep 4
echo "after 4 s:                            $(left) s left"
nft 'add element inet t s { 80 timeout 20s }'
again=$(left)
echo "added again:                          $again s left"
printf 'delete element inet t s { 80 }\nadd element inet t s { 80 timeout 20s }\n' | nft -f -
renewed=$(left)
echo "deleted and added in one transaction: $renewed s left"
[ "$again" -le 16 ] || { echo "changed: adding again renews the timeout"; exit 1; }
[ "$renewed" -ge 18 ] || { echo "changed: the transaction does not renew it"; exit 1; }
