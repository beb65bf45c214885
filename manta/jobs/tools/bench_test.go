package tools

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// table returns lines of a word and a number.
func table(n int) string {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "word%d\t%d\n", i*i%997, i)
	}
	return b.String()
}

// BenchmarkMcat emits 1,000 objects, through a door.
func BenchmarkMcat(b *testing.B) {
	z := newZone(b)
	args := []string{"mcat"}
	for i := range 1000 {
		args = append(args, fmt.Sprint("/alice/stor/", i))
	}
	for b.Loop() {
		if got := z.run("", args...); got.Code != 0 {
			b.Fatal(got)
		}
	}
}

// BenchmarkMsplit splits a text of 100,000 lines into four objects.
func BenchmarkMsplit(b *testing.B) {
	z := newZone(b)
	in := table(100_000)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if got := z.run(in, "msplit", "-n", "4"); got.Code != 0 {
			b.Fatal(got)
		}
	}
}

// BenchmarkMaggr sums by word in a text of 100,000 lines.
func BenchmarkMaggr(b *testing.B) {
	in := table(100_000)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if got := runWith(b, nil, in, "maggr", "-d", "\t", "-c1=key", "sum"); got.Code != 0 || !strings.Contains(got.Out, "word1\t") {
			b.Fatal(got.Err)
		}
	}
}
