//go:build linux

package btrfs

import "github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"

func recordNow(*Pool) pooldir.Record { return pooldir.Record{} }

func pendingRollback(id string) *pooldir.Pending {
	return &pooldir.Pending{Verb: "rollback", Snapshot: id}
}

func saveRecord(dir string, r pooldir.Record) error { return pooldir.Save(dir, r) }
