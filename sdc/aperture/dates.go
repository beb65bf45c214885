package aperture

import (
	"strings"
	"time"
)

// dateLayouts are the forms of dates that rules have: what JavaScript's Date.parse reads and people write. Without a zone they are UTC.
var dateLayouts = []string{
	"2006-01-02", "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04",
	"2006-01", "2006",
	time.RFC1123, time.RFC1123Z, "Mon, 2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 -0700", "Mon, 2 Jan 2006", "2 Jan 2006 15:04:05 MST",
	"2 Jan 2006 15:04:05", "2 Jan 2006", "2 January 2006", time.ANSIC, time.UnixDate,
	"Jan 2, 2006 15:04:05", "Jan 2, 2006", "January 2, 2006 15:04:05", "January 2, 2006", "1/2/2006",
}

func parseDate(s string) (time.Time, bool) {
	if len(s) > 64 {
		return time.Time{}, false
	}
	s = strings.TrimSpace(s)
	for _, layout := range dateLayouts {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		// A zone by another name would silently be taken for UTC.
		if strings.Contains(layout, "MST") && !strings.Contains(s, "GMT") && !strings.Contains(s, "UTC") {
			continue
		}
		return t.UTC(), true
	}
	return time.Time{}, false
}
