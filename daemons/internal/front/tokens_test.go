package front

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestKeptTokens_oldFormat reads keys that an older head node has made: with others, all tokens in clients' hands would be void.
func TestKeptTokens_oldFormat(t *testing.T) {
	dir := t.TempDir()
	sample, err := os.ReadFile(filepath.Join("testdata", "tokens1.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens.json"), sample, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := keptTokens(dir)
	if err != nil || got.Key != "00112233445566778899aabbccddeeff" || got.IV != "ffeeddccbbaa99887766554433221100" || got.MaxAge != time.Hour {
		t.Errorf("keptTokens = %+v, %v", got, err)
	}
}

func TestKeptTokens_madeOnce(t *testing.T) {
	dir := t.TempDir()
	first, err := keptTokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := keptTokens(dir)
	if err != nil || first.Key != second.Key || first.IV != second.IV || first.Key == "" {
		t.Errorf("the keys of the second start are not those of the first: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens.json"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keptTokens(dir); err == nil {
		t.Error("damaged keys were replaced by new ones")
	}
}
