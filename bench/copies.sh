#!/usr/bin/env bash
# Measures what a second copy costs: a head node and two storage nodes as processes of their own, mutual TLS between them, everything synced; each row with
# one copy and with two, in turn.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$work"' EXIT
for program in headnode storagenode; do go build -o "$work/$program" "./daemons/$program"; done
go build -o "$work/storeload" ./bench/storeload
seconds=${SECONDS_A_ROW:-8}

ready() { until grep -q ready "$1"; do kill -0 "$2" && sleep 0.1; done; }
echo '{"dir":"'"$work"'/head","log_level":"warn","manta":{"listen":"127.0.0.1:18180"},"nodes":{"listen":"127.0.0.1:18143"},"admin":{}}' >"$work/head.json"
"$work/headnode" up -config "$work/head.json" >"$work/head.out" &
ready "$work/head.out" $!
for i in 1 2; do
	"$work/headnode" token "$i.stor.bench" -dir "$work/head" >"$work/token"
	"$work/storagenode" join -head 127.0.0.1:18143 -token-file "$work/token" -dir "$work/node$i" >/dev/null
	echo '{"dir":"'"$work/node$i"'","log_level":"warn","datacenter":"dc'$i'","listen":"127.0.0.1:1814'$((3 + i))'","advertise":"127.0.0.1:1814'$((3 + i))'","admin":""}' >"$work/node$i.json"
	"$work/storagenode" up -config "$work/node$i.json" >"$work/node$i.out" &
	ready "$work/node$i.out" $!
done
ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -f "$work/key"
"$work/headnode" account create demo -key "$work/key.pub" -dir "$work/head" >/dev/null

row() {
	for round in 1 2 3; do
		for copies in 1 2; do
			"$work/storeload" -label "copies=$copies" -target manta -url http://127.0.0.1:18180 -key "$work/key" -copies $copies -time "${seconds}s" "$@"
		done
	done
}

uname -srm; nproc; go version; date -u +%F
row -op put -size 1024 -clients 64
row -op put -size 1024 -clients 1
row -op put -size 65536 -clients 16
row -op put -size 1048576 -clients 16
