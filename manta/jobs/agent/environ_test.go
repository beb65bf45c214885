package agent

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAbbreviate(t *testing.T) {
	n := strings.Repeat("n", 300)
	cut := strings.Repeat("n", 251) + "_..."
	deep := "/alice/stor/first" + strings.Repeat("/inner", 200) + "/last/name"
	tests := []struct {
		in, want string
		short    bool
	}{
		{"/alice/stor/a b", "/alice/stor/a b", false},
		{"/alice/stor/" + strings.Repeat("n", 255), "/alice/stor/" + strings.Repeat("n", 255), false},
		{"/alice/stor/" + n, "/alice/stor/" + cut, true},
		{"/alice/stor/" + n + "/x", "/alice/stor/" + cut + "/x", true},
		{"/alice/stor/" + strings.Repeat("ü", 150), "/alice/stor/" + strings.Repeat("ü", 125) + "_...", true},
		{deep, "/alice/stor/first/_.../last/name", true},
		{"/alice" + strings.Repeat("/"+n, 6), "/alice/" + cut + "/_.../" + cut, true},
	}
	for _, tt := range tests {
		if got, short := abbreviate(tt.in); got != tt.want || short != tt.short {
			t.Errorf("abbreviate(%.40s…) = %s, %v; want %s", tt.in, got, short, tt.want)
		}
	}
}

func FuzzAbbreviate(f *testing.F) {
	f.Add("/alice/stor/a")
	f.Add("/alice/stor/" + strings.Repeat("ü/", 600))
	f.Fuzz(func(t *testing.T, name string) {
		if !strings.HasPrefix(name, "/") || strings.Contains(name, "//") || strings.Count(name, "/") < 3 {
			return
		}
		got, short := abbreviate(name)
		if len(got) > pathMax || short == (got == name) || utf8.ValidString(name) && !utf8.ValidString(got) {
			t.Errorf("abbreviate(%q) = %q, %v", name, got, short)
		}
		for part := range strings.SplitSeq(got, "/") {
			if len(part) > nameMax {
				t.Errorf("abbreviate(%q): component of %d bytes", name, len(part))
			}
		}
	})
}
