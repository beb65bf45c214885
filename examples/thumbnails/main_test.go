package main

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
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
	g := gallery{c: c, dir: "~~/stor/examples-thumbnails", size: 64}
	var out bytes.Buffer
	if err := g.run(t.Context(), drawn(4), &out); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "/small/picture 0") != 4 {
		t.Errorf("printed %s", out.String())
	}
	if _, err := c.HeadObject(t.Context(), &client.HeadObjectInput{Path: g.dir}); err == nil {
		t.Error("something was left in the store")
	}
	err := g.run(t.Context(), map[string][]byte{"no picture": []byte("text")}, &out)
	if err == nil || !strings.Contains(err.Error(), "UserTaskError: user command exited with code 1") {
		t.Errorf("what is no picture: %v", err)
	}
}

func TestShrink(t *testing.T) {
	m := image.NewNRGBA(image.Rect(0, 0, 400, 100))
	for y := range 100 {
		for x := range 400 {
			m.SetNRGBA(x, y, color.NRGBA{255, uint8(x / 100 * 50), 0, 255})
		}
	}
	var large, small bytes.Buffer
	if err := png.Encode(&large, m); err != nil {
		t.Fatal(err)
	}
	if err := shrink(&large, &small, 4); err != nil {
		t.Fatal(err)
	}
	got, err := png.Decode(&small)
	if err != nil {
		t.Fatal(err)
	}
	if got.Bounds() != image.Rect(0, 0, 4, 1) {
		t.Fatalf("size %v", got.Bounds())
	}
	for x := range 4 {
		if c := color.NRGBAModel.Convert(got.At(x, 0)); c != (color.NRGBA{255, uint8(x * 50), 0, 255}) {
			t.Errorf("point %d is %v", x, c)
		}
	}
}

func FuzzShrink(f *testing.F) {
	for _, p := range drawn(2) {
		f.Add(p, 16)
	}
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		if cfg, _, err := image.DecodeConfig(bytes.NewReader(data)); err == nil && cfg.Width*cfg.Height > 1<<20 {
			return // correct, but slow
		}
		var out bytes.Buffer
		if shrink(bytes.NewReader(data), &out, size) == nil {
			if _, err := png.Decode(&out); err != nil {
				t.Error(err)
			}
		}
	})
}
