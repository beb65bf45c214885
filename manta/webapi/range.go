package webapi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/manta"
)

// parseRange reads a Range header for an object of a size above zero. ok is false where the header is to be ignored: it is absent, or of another unit. The
// errors are those for several ranges at once, and for one that is not in the object.
func (s *Server) parseRange(header string, size int64) (off, n int64, ok bool, err error) {
	if header == "" {
		return 0, 0, false, nil
	}
	if strings.Contains(header, ",") {
		return 0, 0, false, manta.Errorf(http.StatusNotImplemented, manta.CodeNotImplemented, "multi-range requests not supported")
	}
	unit, spec, found := strings.Cut(header, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return 0, 0, false, nil
	}
	first, last, found := strings.Cut(strings.TrimSpace(spec), "-")
	first, last = strings.TrimSpace(first), strings.TrimSpace(last)
	code := manta.CodeRangeNotSatisfiable
	if s.cfg.Dialect == V2 {
		code = manta.CodeRangeNotSatisfiableV2
	}
	bad := manta.Errorf(http.StatusRequestedRangeNotSatisfiable, code, "%s is an invalid range", clip(header))
	if !found || first == "" && last == "" {
		return 0, 0, false, bad
	}
	if first == "" { // the last so many bytes
		length, valid := parseOffset(last)
		if !valid || length == 0 {
			return 0, 0, false, bad
		}
		length = min(length, size)
		return size - length, length, true, nil
	}
	start, valid := parseOffset(first)
	if !valid || start >= size {
		return 0, 0, false, bad
	}
	end := size - 1
	if last != "" {
		if end, valid = parseOffset(last); !valid || end < start {
			return 0, 0, false, bad
		}
		end = min(end, size-1)
	}
	return start, end - start + 1, true, nil
}

// parseOffset reads decimal digits. What is beyond any object is as good as the greatest offset.
func parseOffset(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, s != ""
	}
	return n, true
}

func contentRange(off, n, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, size)
}
