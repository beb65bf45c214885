package cell

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// All cells together count as that many processes, and their group goes when they do.
func TestParentGroup(t *testing.T) {
	var dirs []string
	t.Cleanup(func() { // runs after the cells are closed
		for _, dir := range dirs {
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is left", dir)
			}
		}
	})
	cells := open(t, nil)
	c, err := cells.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dirs, err = parents(cells.parent)
	if err != nil {
		t.Fatal(err)
	}
	weights := 0
	for _, dir := range dirs {
		for file, unit := range map[string]int{"cpu.shares": 1024, "cpu.weight": 100} {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				continue
			}
			weights++
			if got, want := strings.TrimSpace(string(b)), strconv.Itoa(unit*cells.cfg.Zones); got != want {
				t.Errorf("%s in %s is %s, want %s", file, dir, got, want)
			}
		}
	}
	if weights == 0 {
		t.Error("no group has a weight")
	}
	c.Return()
}
