package audit

import (
	"encoding/binary"
	"testing"
)

// TestFilter holds that a filter forgets nothing, and seldom takes one thing for another.
func TestFilter(t *testing.T) {
	const items = 200_000
	f := newFilter(items)
	key := func(i int) []byte { return binary.BigEndian.AppendUint64([]byte("key"), uint64(i)) }
	for i := range items {
		f.add(key(i))
	}
	wrong := 0
	for i := range items {
		if !f.has(key(i)) {
			t.Fatalf("%d was forgotten", i)
		}
		if f.has(key(items + i)) {
			wrong++
		}
	}
	if wrong > items/200 {
		t.Errorf("%d of %d others seem to be there", wrong, items)
	}
	t.Logf("%d of %d others seem to be there", wrong, items)
}

func BenchmarkFilter(b *testing.B) {
	f := newFilter(1_000_000)
	key := make([]byte, 60)
	i := uint64(0)
	for b.Loop() {
		i++
		binary.BigEndian.PutUint64(key, i)
		f.add(key)
		f.has(key)
	}
}
