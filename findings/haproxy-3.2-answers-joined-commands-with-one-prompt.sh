#!/bin/bash
# Tool: HAProxy's runtime API in interactive mode, 2.6 (Debian 12, bookworm) and whatever Debian's sid has, 3.2.26 when this was written.
#
# People expect: after "prompt" each answer ends with a prompt, so that a client can tell the answers to "a;b;c" apart.
# It does: up to 3.0 each command has its prompt. From 3.2 on there is one a LINE: the answers to commands that are joined by ";" run into each
#   other, and a line that ends with ";quit" is answered without any prompt. No error says so.
# Why it matters here: a client that counts prompts waits for ever, or takes one answer for another. One command a line, in one write, gives one
#   prompt for each command on every version.
set -euo pipefail
dir=$(mktemp -d)
cd "$dir"
pid=
trap '[ -z "$pid" ] || kill "$pid"; wait; rm -rf "$dir"' EXIT
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | head -n 1)
mkdir -p apt/lists/partial apt/archives/partial
: >apt/status
# bring SUITE: HAProxy and its libraries of another suite; nothing is installed.
bring() {
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main" >apt/list
	local apt=(-qq -o "Dir::State=$dir/apt" -o "Dir::State::Lists=$dir/apt/lists" -o "Dir::State::status=$dir/apt/status" -o "Dir::Cache=$dir/apt"
		-o "Dir::Etc::SourceList=$dir/apt/list" -o Dir::Etc::SourceParts=/dev/null -o Acquire::Languages=none -o APT::Sandbox::User=root)
	apt-get "${apt[@]}" update
	mkdir "$1"
	(cd "$1" && apt-get "${apt[@]}" install -y --no-install-recommends --print-uris haproxy | awk '{ print $2 }' | grep -E '^(haproxy|lib[^_]*)_' |
		sed -E 's/_[^_]*\.deb$//; s/_/=/; s/%3a/:/g' | xargs apt-get "${apt[@]}" download && for deb in *.deb; do dpkg -x "$deb" .; done)
}
# prompts SUITE TEXT: how many prompts HAProxy answers to TEXT.
prompts() {
	local root=$dir/$1 loader paths
	loader=$(find "$root" -name 'ld-linux*.so.*' | head -n 1)
	paths=$(find "$root" -type d -path '*/*-linux-gnu' | paste -s -d :)
	[ "$2" != version ] || { "$loader" --library-path "$paths" "$root/usr/sbin/haproxy" -v | head -n 1; return; }
	printf 'global\n\tstats socket %s/sock level admin\ndefaults\n\tmode http\n\ttimeout client 1s\n\ttimeout server 1s\n\ttimeout connect 1s\nfrontend f\n\tbind unix@%s/front\n' "$dir" "$dir" >cfg
	"$loader" --library-path "$paths" "$root/usr/sbin/haproxy" -db -f cfg 2>log &
	pid=$!
	for _ in $(seq 100); do [ -S sock ] && break; sleep 0.1; done
	perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "connect: $!"; print $s $ARGV[1]; $s->flush; local $/; $_ = <$s>; print scalar(() = /^> /mg), "\n"' \
		"$dir/sock" "$(printf '%b' "$2")
"
	kill "$pid"
	wait "$pid" || true
	pid=
	rm -f sock front
}
for suite in bookworm sid; do
	bring "$suite"
	echo "$suite: $(prompts "$suite" version)"
	joined=$(prompts "$suite" 'prompt;show version;show uptime;quit')
	lines=$(prompts "$suite" 'prompt\nshow version\nshow uptime\nquit')
	echo "  prompts after prompt;show version;show uptime;quit: $joined, after the same in lines: $lines"
	[ "$lines" = 3 ] || { echo "changed: not 3 prompts for lines"; exit 1; }
	case $suite in
	bookworm) [ "$joined" = 3 ] || { echo "changed: $joined prompts in $suite"; exit 1; } ;;
	sid) [ "$joined" = 0 ] || { echo "changed: $joined prompts in $suite"; exit 1; } ;;
	esac
done
