package task

import (
	"bufio"
	"bytes"
	"testing"
)

// FuzzFrame holds that whatever comes over a connection is read within bounds, and that what is taken for a frame is one.
func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, kindBeat, nil))
	f.Add(appendFrame(nil, kindOrders, []byte(`[{"open":{"job":"j"}},{"cancel":"t"}]`)))
	f.Add(appendFrame(nil, kindReports, []byte(`[{"done":{"task":"t","usage":{"wall_ns":1}}},{"emit":{"task":"t","path":"/a","reducer":-1}}]`)))
	f.Add(appendFrame(appendFrame(nil, kindTaken, appendCount(nil, 7)), kindEnd, []byte("why")))
	f.Add([]byte("\x02\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		var again []byte
		for {
			k, payload, err := readFrame(r)
			if err != nil {
				break
			}
			again = appendFrame(again, k, payload)
			orders := &pipe[Report, Order]{gets: kindOrders, room: make(chan struct{}, 1), more: make(chan struct{}, 1)}
			reports := &pipe[Order, Report]{gets: kindReports, room: make(chan struct{}, 1), more: make(chan struct{}, 1)}
			if orders.take(k, payload) == nil && k == kindOrders {
				for _, o := range orders.queue {
					if err := o.check(); err != nil {
						t.Fatal(err)
					}
				}
			}
			reports.take(k, payload)
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("%q was read as %q", b, again)
		}
	})
}
