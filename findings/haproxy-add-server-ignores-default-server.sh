#!/bin/bash
# Tool: HAProxy 2.6.12 (Debian 12's package haproxy).
#
# People expect: `add server` on the runtime API makes a server as a `server` line of the same backend would: with the options of its
#   `default-server` line, among them `check`, `weight` and `maxconn`.
# It does: a server that is added at run time has none of them. It is not checked, has weight 1, and so it takes traffic for good, whether or
#   not anybody listens there, while its neighbours of the file are checked and go down.
# Why it matters here: what is written once per backend in the file must stand on every server line, in the file and at run time alike, or
#   a server behaves in one way until the next reload and in another one after it.
set -euo pipefail
dir=$(mktemp -d)
cd "$dir"
pid=
trap '[ -z "$pid" ] || kill "$pid"; wait; rm -rf "$dir"' EXIT
apt-get -qq -o APT::Sandbox::User=root download haproxy=2.6.12-1+deb12u4
dpkg -x haproxy_*.deb .
usr/sbin/haproxy -v | head -n 1
port=$((20000 + $$ % 20000)) # nobody listens at the two above it
cat >haproxy.cfg <<END
global
    stats socket $dir/sock level admin
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
listen front
    bind 127.0.0.1:$port
    balance roundrobin
    default-server check inter 100ms fall 1 weight 50 maxconn 7
    server file 127.0.0.1:$((port + 1))
END
usr/sbin/haproxy -f haproxy.cfg 2>log &
pid=$!
ask() {
	python3 - "$dir/sock" "$1" <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall((sys.argv[2] + "\n").encode())
while data := s.recv(65536):
    sys.stdout.write(data.decode())
END
}
for _ in $(seq 50); do [ -S sock ] && break; sleep 0.1; done
ask "add server front/added 127.0.0.1:$((port + 2))" | sed '/^$/d'
ask "enable server front/added" >/dev/null
# name, status, weight, maxconn, status of the check
state() { ask "show stat front 4 -1" | awk -F, -v name="$1" '$2 == name { print $18 ", weight " $19 ", maxconn " ($7 == "" ? "none" : $7) ", last check " ($37 == "" ? "never" : $37) }'; }
for _ in $(seq 50); do case $(state file) in DOWN*) break ;; esac; sleep 0.1; done
echo "of the file:       $(state file)"
echo "added at run time: $(state added)"
case $(state file) in "DOWN, weight 50, maxconn 7, last check L4"*) ;; *) echo "changed: the file's server is another"; exit 1 ;; esac
[ "$(state added)" = "no check, weight 1, maxconn none, last check never" ] || { echo "changed: the added server has something of default-server"; exit 1; }
