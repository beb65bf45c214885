package pebble

import (
	"encoding/binary"
	"io"

	lsm "github.com/cockroachdb/pebble/v2"
)

// counterMerger sums the operands of counters. Its name is in every table file: a change of meaning needs another name.
//
// A sum of zero stays stored until a CheckCounter meets it. The engine's DeletableValueMerger would drop it by itself, but with
// v2.1.7 a compaction that does so drops a Set or Delete below it as well, or panics.
var counterMerger = &lsm.Merger{
	Name: "mobula.sum.1",
	Merge: func(_, value []byte) (lsm.ValueMerger, error) {
		s := &sum{}
		return s, s.add(value)
	},
}

type sum struct{ n int64 }

func (s *sum) add(value []byte) error {
	n, err := counterValue(value)
	s.n += n
	return err
}

func (s *sum) MergeNewer(value []byte) error { return s.add(value) }
func (s *sum) MergeOlder(value []byte) error { return s.add(value) }

func (s *sum) Finish(bool) ([]byte, io.Closer, error) {
	return binary.BigEndian.AppendUint64(nil, uint64(s.n)), nil, nil
}
