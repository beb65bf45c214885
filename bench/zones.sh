#!/usr/bin/env bash
# Measures zones beside runc, crun, podman and LXC, as far as they are installed: new zones by zoneload, then what has no peer (a warm zone's
# hand-out and reset, a program in a standing zone) by benchmarks. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap '"$work/vmadm" -dir "$work/v" destroy >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
go build -o "$work/zoneload" ./bench/zoneload
go build -o "$work/vmadm" ./examples/vmadm

uname -srm; nproc; go version; date -u +%F
for p in "runc --version" "crun --version" "podman --version" "lxc-execute --version"; do $p 2>/dev/null | head -1 || true; done
cut -d' ' -f1-3 /proc/loadavg
"$work/zoneload" -dir "$work" -vmadm "$work/vmadm" -rounds "${ROUNDS:-40}"
go test -run - -bench 'HandOut|Reset' -benchtime 100x ./zones/pool | grep ns/op
go test -run - -bench 'Start|Exec|Give' -benchtime 200x ./zones/oci | grep ns/op
go test -run - -bench 'Create' -benchtime 60x ./zones/host | grep ns/op
cut -d' ' -f1-3 /proc/loadavg
