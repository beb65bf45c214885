package main

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	const id = "cdcdcdcd-0000-4000-8000-000000000001"
	type opts = map[byte][]string
	tests := []struct {
		usage string
		args  []string
		want  call
		bad   bool
	}{
		{"", nil, call{}, false},
		{"", []string{"x"}, call{}, true},
		{"[-F] [-t SECONDS] UUID", []string{id, "-F", "-t", "5"}, call{uuid: id, opts: opts{'F': {""}, 't': {"5"}}}, false},
		{"[-F] [-t SECONDS] UUID", []string{"-t5", "-F", id}, call{uuid: id, opts: opts{'F': {""}, 't': {"5"}}}, false},
		{"[-F] [-t SECONDS] UUID", []string{"-t", "5", "-t", "6", id}, call{}, true},
		{"[-F] [-t SECONDS] UUID", []string{id, "-t"}, call{}, true},
		{"[-F] UUID", []string{"-x", id}, call{}, true},
		{"[-F] UUID", []string{"nonsense"}, call{}, true},
		{"[-F] UUID", nil, call{}, true},
		{"UUID NAME", []string{id, "a"}, call{uuid: id, args: []string{"a"}}, false},
		{"UUID NAME", []string{id, "a", "b"}, call{}, true},
		{"[-jr] [UUID]", []string{"-jr"}, call{opts: opts{'j': {""}, 'r': {""}}}, false},
		{"[-j|-1] [-s FIELD,...] [FIELD=VALUE...]", []string{"-1", "a=b", "-s", "-ram,uuid", "c=d"},
			call{args: []string{"a=b", "c=d"}, opts: opts{'1': {""}, 's': {"-ram,uuid"}}}, false},
		{"[-t] [-e NAME=VALUE]... UUID PROGRAM [ARG...]", []string{"-e", "a=1", "-e", "b=2", id, "ls", "-l", "-t", "--"},
			call{uuid: id, args: []string{"ls", "-l", "-t"}, opts: opts{'e': {"a=1", "b=2"}}}, false},
		{"[-f FILE]", []string{"-f", "-"}, call{opts: opts{'f': {"-"}}}, false},
		{"UUID [PROPERTY=VALUE...]", []string{"--", id, "-x"}, call{uuid: id, args: []string{"-x"}}, false},
	}
	for _, tt := range tests {
		got, err := parse(tt.usage, tt.args)
		if tt.bad {
			if _, ok := errors.AsType[usageError](err); !ok {
				t.Errorf("%q %q: %+v, %v; want a usage error", tt.usage, tt.args, got, err)
			}
			continue
		}
		if tt.want.opts == nil {
			tt.want.opts = opts{}
		}
		if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(call{})); err != nil || d != "" {
			t.Errorf("%q %q: %v\n%s", tt.usage, tt.args, err, d)
		}
	}
}
