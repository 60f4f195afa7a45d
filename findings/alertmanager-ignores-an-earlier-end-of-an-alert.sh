#!/bin/bash
# Tool: Prometheus Alertmanager 0.25.0 (Debian 12's package prometheus-alertmanager), API v2.
#
# People expect: posting an alert again replaces its startsAt and endsAt, and one bad alert in a request either spoils all of them or none.
# It does: 1. An alert whose endsAt lies in the future keeps the LATEST future end it was ever given: posting an earlier future end changes
#   nothing, while an end in the past takes effect. 2. A request with one alert whose label name is bad is answered 400, and the other alerts of
#   that request are taken all the same.
#   3. An alert that is posted with an end in the future and no start gets its end as its start: it begins when it ends.
# Why it matters here: a sender that gives each alert a lease (endsAt = now + some minutes) cannot shorten the lease later, only end it; and one
#   that sends the whole batch again after a 400 must expect that most of it has arrived.
set -euo pipefail
dir=$(mktemp -d)
cd "$dir"
pid=
trap '[ -z "$pid" ] || kill "$pid"; wait; rm -rf "$dir"' EXIT
apt-get -qq -o APT::Sandbox::User=root download prometheus-alertmanager=0.25.0-1+b4
dpkg -x prometheus-alertmanager_*.deb .
# It looks for its templates in /usr/share: a root of its own, with the libraries that it needs, leaves this machine as it was.
mkdir -p lib64 lib/x86_64-linux-gnu
cp /lib64/ld-linux-x86-64.so.2 lib64/
cp /lib/x86_64-linux-gnu/libc.so.6 lib/x86_64-linux-gnu/
chroot . /usr/bin/prometheus-alertmanager --version 2>&1 | head -n 1
printf 'route: {receiver: none}\nreceivers: [{name: none}]\n' >config.yml
port=$((20000 + $$ % 20000))
at=http://127.0.0.1:$port/api/v2
chroot . /usr/bin/prometheus-alertmanager --config.file=/config.yml --storage.path=/data --cluster.listen-address= --web.listen-address="127.0.0.1:$port" 2>log &
pid=$!
for _ in $(seq 100); do curl -sf "$at/status" >/dev/null && break; sleep 0.1; done

when() { date -u -d "$1" +%Y-%m-%dT%H:%M:%SZ; }
post() { curl -s -o answer -w '%{http_code}' -H 'Content-Type: application/json' "$at/alerts" -d "$1"; }
end() { curl -s "$at/alerts" | tr '{' '\n' | grep -oE '"endsAt":"[^"]*' | cut -d'"' -f4 | cut -c1-19; }
begun=$(when '-5 min')
alert() { printf '[{"labels": {"alertname": "lease"}, "startsAt": "%s", "endsAt": "%s"}]' "$begun" "$1"; }

later=$(when '+60 min') sooner=$(when '+10 min')
echo "post with an end in 60 minutes: $(post "$(alert "$later")"), ends $(end)"
echo "post with an end in 10 minutes: $(post "$(alert "$sooner")"), ends $(end)"
[ "$(end)Z" = "$later" ] || { echo "changed: the earlier end is taken"; exit 1; }
echo "post with an end in the past:   $(post "$(alert "$(when '-1 min')")"), active alerts: $(end | wc -l)"
[ "$(end | wc -l)" = 0 ] || { echo "changed: an end in the past does not end it"; exit 1; }

status=$(post '[{"labels": {"alertname": "good"}}, {"labels": {"alertname": "bad", "not-a-name": "x"}}]')
names=$(curl -s "$at/alerts" | grep -oE '"alertname":"[^"]*' | cut -d'"' -f4 | tr '\n' ' ')
echo "post of a good and a bad alert: $status $(cut -c1-90 answer); there are now: $names"
[ "$status" = 400 ] && [ "$names" = "good " ] || { echo "changed"; exit 1; }

post "[{\"labels\": {\"alertname\": \"startless\"}, \"endsAt\": \"$later\"}]" >/dev/null
start=$(curl -s "$at/alerts?filter=alertname=startless" | grep -oE '"startsAt":"[^"]*' | cut -d'"' -f4 | cut -c1-19)
echo "post of an end ($later) without a start: starts ${start}Z"
[ "${start}Z" = "$later" ] || { echo "changed: the start is another"; exit 1; }
