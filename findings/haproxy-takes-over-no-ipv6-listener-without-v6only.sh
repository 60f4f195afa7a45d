#!/bin/bash
# Tool: HAProxy 2.6.12 (Debian 12's package haproxy), Linux.
#
# People expect: with `expose-fd listeners` a new process that is started with `-x` takes the listening sockets of the old one, all of them.
# It does: it takes those of IPv4, and of [::], and opens new ones for every other IPv6 address. Linux makes a socket that is bound to one IPv6
#   address an IPv6-only one (IPV6_V6ONLY reads 1 without having been set), HAProxy looks for one that is not, and finds none. Only with `v6only`
#   on the bind line the socket is taken over.
# Why it matters here: connections that wait in the old process's queue are reset at each reload. With one client and one reload it was 1 request
#   of some thousands in every second run; with `v6only` none.
set -euo pipefail
dir=$(mktemp -d)
cd "$dir"
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
apt-get -qq -o APT::Sandbox::User=root download haproxy=2.6.12-1+deb12u4
dpkg -x haproxy_*.deb .
usr/sbin/haproxy -v | head -n 1
port=$((20000 + $$ % 20000))
four=$(printf '%04X' "$port") six=$(printf '%04X' $((port + 1))) only=$(printf '%04X' $((port + 2)))
cat >haproxy.cfg <<END
global
    stats socket $dir/sock level admin expose-fd listeners
defaults
    mode tcp
    timeout connect 1s
    timeout client 5s
    timeout server 5s
listen front
    bind 127.0.0.1:$port
    bind [::1]:$((port + 1))
    bind [::1]:$((port + 2)) v6only
END
# The inodes of the sockets that listen (state 0A) on a port.
inodes() { cat /proc/net/tcp /proc/net/tcp6 | awk -v port=":$1" '$4 == "0A" && substr($2, length($2) - 4) == port { print $10 }' | sort | tr '\n' ' '; }
usr/sbin/haproxy -f haproxy.cfg 2>log & pids+=($!)
for _ in $(seq 50); do [ -S sock ] && [ -n "$(inodes "$only")" ] && break; sleep 0.1; done
before_four=$(inodes "$four") before_six=$(inodes "$six") before_only=$(inodes "$only")
usr/sbin/haproxy -f haproxy.cfg -x "$dir/sock" -sf "${pids[0]}" 2>log & pids+=($!)
wait "${pids[0]}" || true # it has told the old one to finish
pids=("${pids[1]}")
same() { [ "$1" = "$2" ] && echo "taken over" || echo "another socket"; }
four=$(same "$before_four" "$(inodes "$four")") six=$(same "$before_six" "$(inodes "$six")") only=$(same "$before_only" "$(inodes "$only")")
echo "bind 127.0.0.1:PORT:    $four"
echo "bind [::1]:PORT:        $six"
echo "bind [::1]:PORT v6only: $only"
[ "$four, $six, $only" = "taken over, another socket, taken over" ] || { echo "changed"; exit 1; }
