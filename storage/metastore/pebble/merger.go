package pebble

import (
	"encoding/binary"
	"io"

	lsm "github.com/cockroachdb/pebble/v2"
)

// counterMerger sums the operands of counters. Its name is in every table file: a change of meaning needs another name.
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

// DeletableFinish lets operands vanish that sum to zero. A compaction then writes nothing in their place, not even the Set or Delete that it
// found below them, and older operands would come to light again. So counters are written by Merge and removed by
// DeleteRange only, which a compaction keeps.
func (s *sum) DeletableFinish(includesBase bool) ([]byte, bool, io.Closer, error) {
	v, closer, err := s.Finish(includesBase)
	return v, s.n == 0, closer, err
}
