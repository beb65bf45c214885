#!/usr/bin/env bash
# Measures the object store, and MinIO beside it when $MINIO names its binary: each row in turn, authentication on, one copy, everything synced.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$work"' EXIT
go build -o "$work/coal" ./daemons/coal
go build -o "$work/storeload" ./bench/storeload
seconds=${SECONDS_A_ROW:-8}

"$work/coal" up -dir "$work/state" -nodes 1 -manta 127.0.0.1:18080 -admin 127.0.0.1:18083 >"$work/out" &
coal=$!
if [ -n "${MINIO:-}" ]; then
	mkdir "$work/minio"
	MINIO_ROOT_USER=minioadmin MINIO_ROOT_PASSWORD=minioadmin MINIO_BROWSER=off "$MINIO" server --quiet --address 127.0.0.1:19000 "$work/minio" >"$work/minio.out" 2>&1 &
	minio=$!
fi
until grep -q ready "$work/out"; do sleep 0.1; done
[ -z "${MINIO:-}" ] || until curl -fs http://127.0.0.1:19000/minio/health/live; do sleep 0.1; done

ours() { "$work/storeload" -label mobula -target manta -url http://127.0.0.1:18080 -key "$work/state/keys/demo" -time "${seconds}s" "$@"; }
theirs() { [ -z "${MINIO:-}" ] || "$work/storeload" -label minio -target s3 -url http://127.0.0.1:19000 -time "${seconds}s" "$@"; }
row() {
	for round in 1 2 3; do
		ours "$@"
		theirs "$@"
	done
}

uname -srm; nproc; go version; date -u +%F
row -op put -size 1024 -clients 64
row -op put -size 1024 -clients 1
row -op put -size 65536 -clients 16
row -op put -size 1048576 -clients 16
row -op put -size 67108864 -clients 1
row -op get -size 1024 -clients 64 -objects 5000 -prefix g1k
row -op get -size 1048576 -clients 16 -objects 200 -prefix g1m
row -op list -size 10 -clients 4 -objects 20000 -prefix list
grep VmHWM "/proc/$coal/status" | sed 's/^/mobula /'
[ -z "${MINIO:-}" ] || grep VmHWM "/proc/$minio/status" | sed 's/^/minio /'
