package webapi

import "strings"

// redact takes the signature out of a pre-signed URL, so that a log gives nobody access.
func redact(target string) string {
	path, query, found := strings.Cut(target, "?")
	if !found || !strings.Contains(query, "signature=") {
		return target
	}
	parts := strings.Split(query, "&")
	for i, p := range parts {
		if strings.HasPrefix(p, "signature=") {
			parts[i] = "signature=REDACTED"
		}
	}
	return path + "?" + strings.Join(parts, "&")
}
