#!/usr/bin/env bash
# Measures compute on the data, as root: a grep for each object, as a job, beside the same on plain files and on fetched objects; and the smallest job.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; "$work/coal" destroy -dir "$work/state"; rm -rf "$work"' EXIT
go build -o "$work/coal" ./daemons/coal
go build -o "$work/jobload" ./bench/jobload

"$work/coal" up -dir "$work/state" -manta 127.0.0.1:18080 -admin 127.0.0.1:18083 >"$work/out" &
coal=$!
until grep -q ready "$work/out"; do sleep 0.1; done

row() { "$work/jobload" -url http://127.0.0.1:18080 -key "$work/state/keys/demo" "$@"; }
uname -srm; nproc; go version; date -u +%F
row -size 4096 -objects 3000 -smalls 50
row -size 65536 -objects 1500 -rounds 2
row -size 67108864 -objects 16
[ -z "${BIG:-}" ] || row -size 1024 -objects 100000 -rounds 1 -ways job
grep -E 'VmHWM' "/proc/$coal/status" | sed 's/^/coal /'
