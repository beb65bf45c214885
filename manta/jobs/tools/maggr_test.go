package tools

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the original's documentation and tests have recorded.
func TestMaggr(t *testing.T) {
	const sample = "foo baz 1 2\nbar baz 3 4\nfoo bng 5 6"
	three := "foo 1 2 3\nbar 4 5 6\nfoo 7 8 9\nbaz 10 11 12\n"
	tests := []struct {
		stdin string
		args  []string
		want  ran
	}{
		{"foo 1\nbar 1\nfoo 2\nfoo 5\n", []string{"-c1=key", "sum,mean"}, ran{0, "foo 8,2.6666666666666665\nbar 1,1\n", ""}},
		{"1 2\n3 4\n5 6\n7 8\n", []string{"-c2=sum", "mean"}, ran{0, "4 20\n", ""}},
		{"1 2 3\n4 5 6\n7 8 9\n", []string{"-c2=sum,max", "mean,min"}, ran{0, "4,1 15,8 6,3\n", ""}},
		{"foo 1\nbar 1\nfoo 2\nfoo 5\n", []string{"-c1=key", "-c2=count,sum", "sum"}, ran{0, "foo 3,8\nbar 1,1\n", ""}},
		{strings.ReplaceAll(three, " ", ":"), []string{"-d", ":", "-o", "-", "-c1=key", "sum"}, ran{0, "foo-8-10-12\nbar-4-5-6\nbaz-10-11-12\n", ""}},
		{three, []string{"-i", "#", "-c1=key", "-c2=sum,mean", "-c3=count"}, ran{0, "foo 8#4 2\nbar 4#4 1\nbaz 10#10 1\n", ""}},
		{sample, []string{"-c1=key", "-c2=nop", "sum"}, ran{0, "foo 6 8\nbar 3 4\n", ""}},
		{"foo 1 1\nbar 1 1\nfoo baz 1\nfoo 1 1\nbar 1 1\n", []string{"-c1=key", "sum"}, ran{1, "foo 2 2\nbar 2 2\n", "Non-number in non-key column 2. line: foo baz 1\n"}},
		{"foo baz 1\nbar 1 1\nfoo 1 1\nfoo 1 1\nbar 1 1\n", []string{"-c1=key", "sum"}, ran{1, "bar 2 2\nfoo 2 2\n", "Non-number in non-key column 2. line: foo baz 1\n"}},
		{sample, []string{"-c1=key", "-c4=sum"}, ran{0, "foo 8\nbar 4\n", ""}},
		{"", []string{"-l"}, ran{0, "", "key nop count max mean min range sum ovariance variance stddev\n"}},
		{"foo 19\nfoo 3\nfoo 7\nfoo 8\nfoo 12", []string{"-c1=key", "-c2=count,max,mean,min,range,sum,ovariance,variance,stddev"},
			ran{0, "foo 5,19,9.8,3,16,49,36.7,36.7,6.058052492344384\n", ""}},
		{sample, []string{"-c1=nop", "-c2=nop", "-c3=nop", "-c4=nop"}, ran{0, "\n", ""}},
		{strings.ReplaceAll(sample, " ", "~"), []string{"-c1=key", "-c2=nop", "-c3=sum", "-c4=sum", "-d", "~"}, ran{0, "foo~6~8\nbar~3~4\n", ""}},
		{sample, []string{"-c1=key", "-c2=nop", "-c3=sum", "-c4=sum", "-o", "~"}, ran{0, "foo~6~8\nbar~3~4\n", ""}},
		{sample, []string{"-c1=key", "-c2=nop", "-c3=sum", "-t3=%.1f", "-c4=sum", "-t4=%5d"}, ran{0, "foo 6.0     8\nbar 3.0     4\n", ""}},
		{sample, []string{"-c1=key", "-c2=nop", "-c3=sum,count", "-t3=%.1f,%02d", "-c4=sum,range", "-t4=%5d,%#x"}, ran{0, "foo 6.0,02     8,0x4\nbar 3.0,01     4,0x0\n", ""}},
		{sample, []string{"-T", "%.2f", "-c1=key", "-c2=nop", "-c3=sum,count", "-t3=%0.3f", "-c4=sum,range", "-t4=%#x"}, ran{0, "foo 6.000,2.00 0x8,4.00\nbar 3.000,1.00 0x4,0.00\n", ""}},
		{sample, []string{"-T", "%.2f", "-c1=key", "-c2=nop", "-c3=sum,count", "-c4=sum,range", "-t4=,%#x"}, ran{0, "foo 6.00,2.00 8.00,0x4\nbar 3.00,1.00 4.00,0x0\n", ""}},
		{sample, []string{"-c1=key", "-c2=nop", "-c3=sum,count", "-c4=sum,range"}, ran{0, "foo 6,2 8,4\nbar 3,1 4,0\n", ""}},
		{sample, []string{"-c1=key", "-c2=nop", "-c3=nop", "-c4=nop", "-c5=sum"}, ran{0, "foo\nbar\n", ""}},
		{sample, []string{"-c1=nop", "-c2=key", "-c3=sum", "-c4=sum"}, ran{0, "baz 4 6\nbng 5 6\n", ""}},

		// Of this implementation.
		{"10 1\n9 1\nb 1\n1 1\n01 1\n", []string{"-c1=key", "count"}, ran{0, "1 1\n9 1\n10 1\nb 1\n01 1\n", ""}},
		{"a bc 1\nab c 1\n", []string{"-c1=key", "-c2=key", "sum"}, ran{0, "a bc 1\nab c 1\n", ""}},
		{"a 5\na -5\n", []string{"-c1=key", "sum"}, ran{0, "a 0\n", ""}},
		{"a 0.1\na 0.2\n", []string{"-c1=key", "sum,variance"}, ran{0, "a 0.30000000000000004,0.005000000000000001\n", ""}},
		{"a 1\n", []string{"-c1=key", "stddev"}, ran{0, "a NaN\n", ""}},
		{"1e21\n1e300\n", []string{"max,min"}, ran{0, "1e+300,1e+21\n", ""}},
		{"a 1 9\na 2\n", []string{"-c1=key", "sum"}, ran{0, "a 3 9\n", ""}},
		{"", []string{"sum"}, ran{0, "", ""}},
	}
	for _, tt := range tests {
		if got := runWith(t, nil, tt.stdin, append([]string{"maggr"}, tt.args...)...); got != tt.want {
			t.Errorf("maggr %q < %q\n got %+v\nwant %+v", tt.args, tt.stdin, got, tt.want)
		}
	}
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := runWith(t, nil, "not this", "maggr", "-c1=key", "-c2=nop", "-f", file, "sum"); got.Out != "foo 6 8\nbar 3 4\n" {
		t.Errorf("maggr -f = %+v", got)
	}
	for _, wrong := range [][]string{{}, {"-c1", "key"}, {"-c-1=sum"}, {"-c0=sum"}, {"-cx=sum"}, {"-c1=nope"}, {"-c1=key,sum"}, {"-c1=nop,sum"}, {"-c1=sum", "-t1=%q"}, {"-z"}, {"sum,median"}} {
		if got := runWith(t, nil, "", append([]string{"maggr"}, wrong...)...); got.Code != 2 || got.Out != "" {
			t.Errorf("maggr %q = %+v, want 2", wrong, got)
		}
	}
	if got := runWith(t, nil, "", "maggr", "-f", "/nowhere", "sum"); got.Code != 1 {
		t.Errorf("maggr -f /nowhere = %+v, want 1", got)
	}
}

func TestPattern(t *testing.T) {
	for _, tt := range []struct{ pattern, in, want string }{
		{"%d", "7.9", "7"}, {"%d", "-7.9", "-7"}, {"%5d|", "7", "    7|"}, {"%-5d|", "7", "7    |"}, {"%05d", "-7", "-0007"}, {"%+d", "7", "+7"}, {"% d", "7", " 7"},
		{"%x", "255", "ff"}, {"%x", "-8", "fffffff8"}, {"%#x", "-0.5", "0x0"}, {"%8.2f", "1e23", "   1e+23"}, {"%#X", "255", "0XFF"}, {"%o", "8", "10"}, {"%#o", "8", "010"}, {"%f", "1.5", "1.500000"}, {"%.0f", "2.5", "2"}, {"%e", "12345", "1.234500e+04"},
		{"%s", "abc", "abc"}, {"%.2s", "abc", "ab"}, {"%8.3f", "3.14159", "   3.142"}, {"a%%b%dc%%", "1", "a%b1c%"}, {"plain", "1", "plain"}, {"%d", "NaN", "NaN"}, {"%d", "text", "text"},
	} {
		pt, err := parsePattern(tt.pattern)
		if err != nil {
			t.Errorf("parsePattern(%q): %v", tt.pattern, err)
			continue
		}
		if got := pt.format(tt.in); got != tt.want {
			t.Errorf("%q of %s = %q, want %q", tt.pattern, tt.in, got, tt.want)
		}
	}
	for _, bad := range []string{"%", "%q", "%*d", "%1$d", "%99999d", "%.999f", "%5", "%.%"} {
		if _, err := parsePattern(bad); err == nil {
			t.Errorf("parsePattern(%q) took it", bad)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want string
	}{
		{"1", "1"}, {"-1.50", "-1.5"}, {" 7x", "7"}, {".5", "0.5"}, {"5.", "5"}, {"1e3", "1000"}, {"1e", "1"}, {"1e+", "1"}, {"1e21", "1e+21"}, {"123456789012345680000", "123456789012345680000"},
		{"0.000001", "0.000001"}, {"0.0000001", "1e-7"}, {"-Infinity", "-Infinity"}, {"1e999", "Infinity"}, {"-0", "0"}, {"0x10", "0"}, {"", "none"}, {"x", "none"}, {"-", "none"}, {".", "none"},
	} {
		f, ok := jsParseFloat(tt.in)
		got := "none"
		if ok {
			got = jsNumber(f)
		}
		if got != tt.want {
			t.Errorf("parseFloat(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

func FuzzMaggr(f *testing.F) {
	f.Add("a 1\nb 2\n", "-c1=key", "sum,variance", "%5.2f")
	f.Add("1:2\n", "-d:", "key", "%#x")
	f.Fuzz(func(t *testing.T, in, option, ops, format string) {
		if strings.Contains(option, "f") { // reads a file
			return
		}
		runWith(t, nil, in, "maggr", option, "-T", format, ops)
	})
}

func FuzzMsplit(f *testing.F) {
	f.Add("a\tb\n{}\n", 3, "\t", "1,2", false)
	f.Add("{\"a\":{\"b\":[1,null,{}]}}", 2, ",", "a.b", true)
	f.Fuzz(func(t *testing.T, in string, n int, delim, fields string, asJSON bool) {
		o := &parsed{settings: []setting{{"n", jsNumber(float64(n))}, {"d", delim}, {"f", fields}}}
		if asJSON {
			o.settings = append(o.settings, setting{"j", "true"})
		}
		s, err := newSplitter(o)
		if err != nil {
			return
		}
		where := map[string]int{}
		s.split(s.keys(strings.NewReader(in)), func(reducer int, line string) error {
			if reducer < 0 || reducer >= s.n {
				t.Fatalf("line %q goes to %d of %d", line, reducer, s.n)
			}
			if before, ok := where[line]; ok && before != reducer {
				t.Fatalf("line %q goes to %d and %d", line, before, reducer)
			}
			where[line] = reducer
			return nil
		})
	})
}
