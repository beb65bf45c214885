package httpsig

import (
	"strings"
	"time"
)

// layouts in which clients send dates beside the one of RFC 9110. Go programs write UTC for GMT; Node reads all of these.
var layouts = []string{
	time.RFC1123, time.RFC1123Z, time.RFC850, time.ANSIC, time.RFC3339Nano,
	"Mon, 2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 -0700", "2 Jan 2006 15:04:05 MST", "2 Jan 2006 15:04:05 -0700",
}

// ParseDate reads the value of a Date or X-Date header. It takes more forms than RFC 9110 wants, because clients send them; a zone by
// name must be GMT, UTC or Z, since no other name says one thing.
func ParseDate(s string) (time.Time, bool) {
	if t, ok := parseIMF(s); ok {
		return t, true
	}
	if len(s) > 64 {
		return time.Time{}, false
	}
	s = strings.TrimSpace(s)
	for _, layout := range layouts {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		// A name that package time does not know parses with a made-up offset of 0.
		if strings.Contains(layout, "MST") && !strings.HasSuffix(s, "GMT") && !strings.HasSuffix(s, "UTC") && !strings.HasSuffix(s, " Z") {
			continue
		}
		return t.UTC(), true
	}
	return time.Time{}, false
}

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// parseIMF reads the one form that nearly every request has, "Mon, 02 Jan 2006 15:04:05 GMT", ten times as fast as package time.
func parseIMF(s string) (time.Time, bool) {
	if len(s) != 29 || s[3] != ',' || s[4] != ' ' || s[7] != ' ' || s[11] != ' ' || s[16] != ' ' || s[19] != ':' || s[22] != ':' || s[25:] != " GMT" {
		return time.Time{}, false
	}
	month := -1
	for i := 0; i < len(months); i += 3 {
		if s[8:11] == months[i:i+3] {
			month = i/3 + 1
			break
		}
	}
	day, ok1 := digits(s[5:7])
	year, ok2 := digits(s[12:16])
	hour, ok3 := digits(s[17:19])
	minute, ok4 := digits(s[20:22])
	second, ok5 := digits(s[23:25])
	if month < 0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	return t, t.Day() == day
}

func digits(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
