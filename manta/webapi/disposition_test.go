package webapi

import "testing"

func TestCanonicalDisposition(t *testing.T) {
	for v, want := range map[string]string{
		"inline":                     "inline",
		"Attachment; Filename=x.txt": `attachment; filename="x.txt"`,
		`attachment; filename="a/b \"c\".txt"; size=3`: `attachment; filename="b \"c\".txt"`,
		"attachment; filename=\"caf\u00e9\"":           "attachment; filename=\"caf\u00e9\"",
		"attachment; filename*=UTF-8''%e2%82%ac":       `attachment; filename="?"; filename*=UTF-8''%E2%82%AC`,
		`attachment; filename="a%20b"`:                 `attachment; filename="a%20b"; filename*=UTF-8''a%2520b`,
		"a/b":                                          "",
		"attachment; filename":                         "",
		"":                                             "",
	} {
		got, err := canonicalDisposition(v)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("canonicalDisposition(%q) = %q, %v, want %q", v, got, err, want)
		}
	}
}
