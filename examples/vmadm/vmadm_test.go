//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones/metadata"
)

func TestMain(m *testing.M) {
	commands := map[string]func(){"vmadm": main}
	for _, name := range metadata.GuestPrograms {
		commands[name] = main // zones are shown this very program
	}
	testscript.Main(m, commands)
}

func TestScripts(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "btrfs", "mkfs.btrfs")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TMPDIR", os.TempDir()) // an emulator without rights must get there
			for _, name := range []string{"MOBULA_ZONES_DIR", "OTHER"} {
				dir, err := os.MkdirTemp("", "vmadm")
				if err != nil {
					return err
				}
				e.Setenv(name, dir)
				e.Defer(func() { destroyed(t, dir) })
			}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			path, ok := strings.CutPrefix(cond, "exists:")
			if !ok {
				return false, errors.New("unknown condition " + cond)
			}
			_, err := os.Stat(path)
			return err == nil, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// setuuid NAME puts the uuid in the last command's stderr into a variable.
			"setuuid": func(ts *testscript.TestScript, neg bool, args []string) {
				fields := strings.Fields(ts.ReadFile("stderr"))
				ts.Setenv(args[0], fields[len(fields)-1])
			},
			// eventually waits until a command's output has a text: what another process does takes its time.
			"eventually": eventually,
		},
	})
}

// destroyed destroys what a script made in a directory, and fails the test if that leaves anything.
func destroyed(t *testing.T, dir string) {
	c := command{dir: dir, stdin: strings.NewReader(""), stdout: t.Output(), stderr: t.Output()}
	if _, err := os.Stat(filepath.Join(dir, "host")); err == nil {
		if err := c.destroy(t.Context(), call{}); err != nil {
			t.Error(err)
		}
	}
	os.RemoveAll(dir)
	b, _ := os.ReadFile("/proc/thread-self/mountinfo")
	if strings.Contains(string(b), filepath.Base(dir)) {
		t.Errorf("a mount below %s is left", dir)
	}
}
