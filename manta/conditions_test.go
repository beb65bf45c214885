package manta

import (
	"net/http"
	"testing"
	"time"
)

func TestConditions(t *testing.T) {
	mtime := time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)
	const same, before, after = "Fri, 02 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:04 GMT", "Fri, 02 Jan 2026 03:04:06 GMT"
	for _, test := range []struct {
		header, value string
		etag          string
		read, write   Outcome
	}{
		{"If-Match", "e", "e", Proceed, Proceed},
		{"If-Match", "W/e", "e", Proceed, Proceed},
		{"If-Match", `"word"`, "word", Proceed, Proceed},
		{"If-Match", "x, e", "e", Proceed, Proceed},
		{"If-Match", "*", "", Proceed, Proceed},
		{"If-Match", `""`, "", Proceed, Proceed},
		{"If-Match", `""`, "e", PreconditionFailed, PreconditionFailed},
		{"If-Match", "x", "e", PreconditionFailed, PreconditionFailed},
		{"If-Match", "", "e", Proceed, Proceed},
		// The original does not unquote what has dashes in it.
		{"If-Match", `"a-b"`, "a-b", PreconditionFailed, PreconditionFailed},
		{"If-None-Match", "e", "e", NotModified, PreconditionFailed},
		{"If-None-Match", "*", "", NotModified, PreconditionFailed},
		{"If-None-Match", "x", "e", Proceed, Proceed},
		{"If-Modified-Since", before, "e", Proceed, Proceed},
		{"If-Modified-Since", same, "e", NotModified, PreconditionFailed},
		{"If-Modified-Since", after, "e", NotModified, PreconditionFailed},
		{"If-Modified-Since", "never", "e", Proceed, Proceed},
		{"If-Unmodified-Since", before, "e", PreconditionFailed, PreconditionFailed},
		{"If-Unmodified-Since", same, "e", Proceed, Proceed},
		{"If-Unmodified-Since", after, "e", Proceed, Proceed},
	} {
		c := ParseConditions(http.Header{test.header: {test.value}})
		if got := c.Check(test.etag, mtime, true); got != test.read {
			t.Errorf("%s: %s on %q, read: %v, want %v", test.header, test.value, test.etag, got, test.read)
		}
		if got := c.Check(test.etag, mtime, false); got != test.write {
			t.Errorf("%s: %s on %q, write: %v, want %v", test.header, test.value, test.etag, got, test.write)
		}
	}
	if c := ParseConditions(http.Header{"If-Unmodified-Since": {before}}); c.Check("", time.Time{}, false) != Proceed || c.Exclusive() || !c.Any() {
		t.Errorf("conditions on what is not there: %+v", c)
	}
}

func FuzzConditions(f *testing.F) {
	f.Add("*", `W/"a", b`, "Fri, 02 Jan 2026 03:04:05 GMT", "x", "e")
	f.Add(`""`, "", "", "Sunday, 06-Nov-94 08:49:37 GMT", "")
	f.Fuzz(func(t *testing.T, match, none, since, unmodified, etag string) {
		c := ParseConditions(http.Header{"If-Match": {match}, "If-None-Match": {none}, "If-Modified-Since": {since}, "If-Unmodified-Since": {unmodified}})
		read := c.Check(etag, time.Unix(1e9, 0), true)
		write := c.Check(etag, time.Unix(1e9, 0), false)
		if (read == Proceed) != (write == Proceed) || write == NotModified {
			t.Errorf("read %v, write %v", read, write)
		}
	})
}
