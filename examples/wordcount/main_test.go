package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/jobs/jobstest"
)

func TestMain(m *testing.M) { os.Exit(jobstest.Main(m)) }

func TestRun(t *testing.T) {
	c := jobstest.Client(t)
	texts := map[string][]byte{"a": []byte("The cat, the dog; THE END\n"), "b": []byte("a cat's tail\x00\xff no newline"), "empty": nil, "made": made(7, 2000)}
	for _, reducers := range []int{1, 5} {
		var out bytes.Buffer
		n := count{c: c, dir: "~~/stor/examples-wordcount", reducers: reducers, top: 12}
		if err := n.run(t.Context(), texts, &out); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), "4 texts, ") || strings.Count(out.String(), "\n") != 13 {
			t.Errorf("printed %s", out.String())
		}
		if _, err := c.HeadObject(t.Context(), &client.HeadObjectInput{Path: n.dir}); err == nil {
			t.Error("the texts were left in the store")
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.txt")
	if err := os.WriteFile(file, []byte("one two"), 0o600); err != nil {
		t.Fatal(err)
	}
	texts, err := read([]string{dir, file})
	if err != nil || len(texts) != 1 {
		t.Errorf("read = %v, %v", texts, err)
	}
	if _, err := read([]string{dir}); err == nil {
		t.Error("a directory alone was taken for texts")
	}
	texts, err = read(nil)
	if err != nil || len(texts) != 16 || !bytes.Equal(texts["text03"], made(3, 20_000)) {
		t.Errorf("made up %d texts, %v", len(texts), err)
	}
	if got, want := local(map[string][]byte{"": []byte("b a B c")}, 2), "b\t2\na\t1\n"; got != want {
		t.Errorf("local = %q, want %q", got, want)
	}
}
