package agent

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	for command, want := range map[string][]string{
		"wc":                                {"wc"},
		"  grep  -c\tERROR ":                {"grep", "-c", "ERROR"},
		`awk '{ s += $1 } END { print s }'`: {"awk", "{ s += $1 } END { print s }"},
		`grep "two words" x'y'"z"`:          {"grep", "two words", "xyz"},
		`sort -k1,1nr --key=2 a=b`:          {"sort", "-k1,1nr", "--key=2", "a=b"},
		`grep ''`:                           {"grep", ""},
		"/assets/demo/stor/tool.sh arg":     {"/assets/demo/stor/tool.sh", "arg"},
		"wc | cat":                          nil,
		"wc; wc":                            nil,
		"wc\nwc":                            nil,
		"A=b wc":                            nil,
		"wc $MANTA_INPUT_FILE":              nil,
		`wc "$MANTA_INPUT_FILE"`:            nil,
		`wc ~/x`:                            nil,
		`ls *`:                              nil,
		`ls [a]`:                            nil,
		`ls {a,b}`:                          nil,
		`wc \a`:                             nil,
		`grep "a\"b"`:                       nil,
		`grep 'open`:                        nil,
		"echo hello":                        nil,
		"exit 3":                            nil,
		"time wc":                           nil,
		"'wc'":                              nil,
		"wc # why":                          nil,
		"wc < file":                         nil,
		"wc &":                              nil,
		"(wc)":                              nil,
		"":                                  nil,
		"! wc":                              nil,
		"wc ärger":                          nil,
		"kill -TERM 1":                      nil,
		"cat 'a\nb'":                        {"cat", "a\nb"},
	} {
		got, ok := plain(command)
		if ok != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("plain(%q) = %q, %v; want %q", command, got, ok, want)
		}
	}
}

// FuzzPlain compares with bash: what is plain, bash splits into the very same words.
func FuzzPlain(f *testing.F) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		f.Skip("no bash")
	}
	for _, s := range []string{"wc -l a", `a 'b c' "d  e" f''g`, `a "" ''`, "a b=c:~d", "a\tb", `a'b'`, "a -- -x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, command string) {
		words, ok := plain(command)
		if !ok || len(command) > 1000 {
			return
		}
		// The words after the first, as a function's arguments.
		out, err := exec.Command(bash, "-c", "show() { printf '%s\\0' \"$@\"; }; show "+strings.TrimLeft(command, " \t")).Output()
		if err != nil {
			t.Fatalf("bash cannot read %q: %v", command, err)
		}
		if got := strings.Join(words, "\x00") + "\x00"; got != string(out) {
			t.Errorf("plain(%q) is %q, bash has %q", command, got, out)
		}
	})
}
