package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/jobs/jobstest"
)

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-worker") { // this binary as an asset of its own job
		main()
		return
	}
	os.Exit(jobstest.Main(m))
}

func TestRun(t *testing.T) {
	c := jobstest.Client(t)
	l := library{c: c, dir: "~~/stor/examples-videoprobe"}
	var out bytes.Buffer
	if err := l.run(t.Context(), invented(5), 300_000, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "/stor/examples-videoprobe/videos/video-02.mp4: av01, 640x360, 312 frames, 10.856 s\n") || strings.Count(out.String(), "\n") != 5 {
		t.Errorf("printed %s", out.String())
	}
	if _, err := c.HeadObject(t.Context(), &client.HeadObjectInput{Path: l.dir}); err == nil {
		t.Error("something was left in the store")
	}
}

func TestProbe(t *testing.T) {
	for _, v := range invented(6) {
		b, err := io.ReadAll(v.File(1000))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Probe(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		name := v.Name
		if v.Name = ""; *got != v {
			t.Errorf("%s: Probe = %+v, want %+v", name, got, v)
		}
		whole := bytes.Index(b, []byte("mdat")) - 4 // without pictures, but with all that is said about them
		for n := range len(b) {
			if _, err := Probe(bytes.NewReader(b[:n])); err == nil && n != whole {
				t.Errorf("%d of %d bytes of %s were taken for all of it", n, len(b), name)
			}
		}
	}
	if _, err := Probe(strings.NewReader("no video at all")); !errors.Is(err, errFormat) {
		t.Errorf("a text: %v", err)
	}
}

func FuzzProbe(f *testing.F) {
	for _, v := range invented(3) {
		b, err := io.ReadAll(v.File(100))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Probe(bytes.NewReader(b))
		if err == nil && (len(v.Codec) != 4 || v.Timescale == 0) {
			t.Errorf("%+v", v)
		}
	})
}
