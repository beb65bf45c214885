package manta

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzLine: a listing's line is one line of valid JSON, whatever is in the entry.
func FuzzLine(f *testing.F) {
	f.Add("a", "text/plain", "inline", int64(0), int64(5))
	f.Add("é\u2028\"\\\n\x01", "x\ty", "", int64(-1), int64(1)<<40)
	f.Add("\xff", "", "", int64(253402300800000), int64(0))
	f.Fuzz(func(t *testing.T, name, contentType, disposition string, ms, size int64) {
		for _, kind := range []Type{TypeObject, TypeDirectory} {
			e := Entry{Key: Key("/u/stor/" + name), Type: kind, ContentType: contentType, Disposition: disposition, Size: size, Mtime: time.UnixMilli(ms % 1e15), ObjectID: "o", MD5: "m"}
			line := e.AppendLine(nil)
			var got struct{ Name, ContentType, Mtime string }
			if err := json.Unmarshal(line, &got); err != nil || line[len(line)-1] != '\n' {
				t.Fatalf("%q: %v", line, err)
			}
			if utf8.ValidString(name) && got.Name != e.Key.Name() {
				t.Errorf("name %q became %q", e.Key.Name(), got.Name)
			}
			if want := e.Mtime.UTC().Format(TimeFormat); got.Mtime != want {
				t.Errorf("mtime %s, want %s", got.Mtime, want)
			}
			for _, c := range line[:len(line)-1] {
				if c == '\n' {
					t.Errorf("a newline within %q", line)
				}
			}
		}
	})
}
