package aperture

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Type says how a condition's value is compared.
type Type string

// The types. All but Array take = and !=; Number, Date, Day, Time and String take < <= > >= too.
const (
	String  Type = "string"  // bytewise; also "like", with a regular expression /body/flags
	Number  Type = "number"  // JavaScript's notation
	Boolean Type = "boolean" // true or false
	Date    Type = "date"    // an instant
	Day     Type = "day"     // of the week in UTC: Monday, Mon, M or 1 to Sunday, Sun, SU or 7, or the weekday of a date
	Time    Type = "time"    // of the day in UTC: hh:mm:ss, or that of a date
	IP      Type = "ip"      // an address or a network in CIDR form, IPv4 or IPv6; IPv4 equals its IPv6-mapped form
	Array   Type = "array"   // of strings: "contains" only
)

// Types says of which type each condition is, by name.
type Types map[string]Type

// A test compares a condition's value with the one in the rule. Its only error is errWrong.
type test func(value any) (bool, error)

var errWrong = errors.New("wrong type")

// compile makes the tests of a comparison, or says why its type, operator and value do not go together.
func (c *comparison) compile(types Types) error {
	if !c.explicit {
		c.typ = types[c.name]
	}
	if c.typ == "" {
		if types == nil {
			return nil
		}
		return &SyntaxError{Message: fmt.Sprintf("no type for %q", c.name)}
	}
	build, ok := makers[c.typ]
	if !ok {
		return &SyntaxError{Message: fmt.Sprintf("unknown type %q", c.typ)}
	}
	if !slices.Contains(operators[c.typ], c.op) {
		return &SyntaxError{Message: fmt.Sprintf("unsupported operation %q on type %q", c.op, c.typ)}
	}
	for _, v := range c.values {
		t, err := build(c.op, v)
		if err != nil {
			return &SyntaxError{Message: fmt.Sprintf("unable to validate value %q as type %q: %v", v, c.typ, err)}
		}
		c.tests = append(c.tests, t)
	}
	return nil
}

var (
	equality = []string{"=", "!="}
	ordering = []string{"=", "!=", "<", "<=", ">", ">="}
)

var operators = map[Type][]string{
	String: append([]string{"like"}, ordering...), Number: ordering, Boolean: equality, Date: ordering, Day: ordering, Time: ordering,
	IP: equality, Array: {"contains"},
}

var makers = map[Type]func(op, value string) (test, error){
	String: makeString, Number: makeNumber, Boolean: makeBoolean, Date: makeDate, Day: makeDay, Time: makeTime, IP: makeIP, Array: makeArray,
}

// decide turns the outcome of a comparison (negative, zero, positive) into that of an operator.
func decide(op string, cmp int) bool {
	switch op {
	case "=":
		return cmp == 0
	case "!=":
		return cmp != 0
	case "<":
		return cmp < 0
	case "<=":
		return cmp <= 0
	case ">":
		return cmp > 0
	}
	return cmp >= 0
}

func makeString(op, value string) (test, error) {
	if op == "like" {
		re, err := compileLiteral(value)
		if err != nil {
			return nil, err
		}
		return func(v any) (bool, error) {
			s, ok := v.(string)
			if !ok {
				return false, errWrong
			}
			return re.MatchString(s), nil
		}, nil
	}
	return func(v any) (bool, error) {
		s, ok := v.(string)
		if !ok {
			return false, errWrong
		}
		return decide(op, strings.Compare(s, value)), nil
	}, nil
}

func makeNumber(op, value string) (test, error) {
	want, ok := parseNumber(value)
	if !ok {
		return nil, errors.New("not a number")
	}
	return func(v any) (bool, error) {
		var got float64
		switch n := v.(type) {
		case float64:
			got = n
		case int:
			got = float64(n)
		case int64:
			got = float64(n)
		default:
			return false, errWrong
		}
		switch {
		case got < want:
			return decide(op, -1), nil
		case got > want:
			return decide(op, 1), nil
		case got == want:
			return decide(op, 0), nil
		}
		return op == "!=", nil // NaN
	}, nil
}

// parseNumber reads a number as JavaScript's unary plus does.
func parseNumber(s string) (float64, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, true
	}
	if len(s) > 2 && s[0] == '0' {
		base := map[byte]int{'x': 16, 'o': 8, 'b': 2}[s[1]|0x20]
		if base != 0 {
			n, err := strconv.ParseUint(s[2:], base, 64)
			return float64(n), err == nil
		}
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789+-.eE", r) }) {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

func makeBoolean(op, value string) (test, error) {
	if value != "true" && value != "false" {
		return nil, errors.New(`must be "true" or "false"`)
	}
	want := value == "true"
	return func(v any) (bool, error) {
		got, ok := v.(bool)
		if !ok {
			return false, errWrong
		}
		return (got == want) == (op == "="), nil
	}, nil
}

func makeDate(op, value string) (test, error) {
	want, ok := parseDate(value)
	if !ok {
		return nil, errors.New("not a date")
	}
	return timeTest(op, want.UnixMilli(), time.Time.UnixMilli), nil
}

func makeDay(op, value string) (test, error) {
	day, ok := days[strings.ToLower(value)]
	if !ok {
		n, numeric := parseNumber(value)
		t, isDate := parseDate(value)
		switch {
		case numeric && n >= 1 && n <= 7 && n == float64(int64(n)):
			day = int64(n)
		case !numeric && isDate:
			day = weekday(t)
		default:
			return nil, errors.New("must be a weekday, 1 (Monday) to 7 (Sunday) or a date")
		}
	}
	return timeTest(op, day, weekday), nil
}

var days = map[string]int64{
	"monday": 1, "mon": 1, "m": 1, "tuesday": 2, "tue": 2, "t": 2, "wednesday": 3, "wed": 3, "w": 3, "thursday": 4, "thu": 4, "th": 4,
	"friday": 5, "fri": 5, "f": 5, "saturday": 6, "sat": 6, "s": 6, "sunday": 7, "sun": 7, "su": 7,
}

func weekday(t time.Time) int64 {
	if d := t.UTC().Weekday(); d != time.Sunday {
		return int64(d)
	}
	return 7
}

func makeTime(op, value string) (test, error) {
	t, err := time.Parse("15:4:5", value)
	if err != nil {
		var ok bool
		if t, ok = parseDate(value); !ok {
			return nil, errors.New("must be hh:mm:ss or a date")
		}
	}
	return timeTest(op, daySeconds(t), daySeconds), nil
}

func daySeconds(t time.Time) int64 {
	h, m, s := t.UTC().Clock()
	return int64(h*3600 + m*60 + s)
}

func timeTest(op string, want int64, of func(time.Time) int64) test {
	return func(v any) (bool, error) {
		t, ok := v.(time.Time)
		if !ok {
			return false, errWrong
		}
		got := of(t)
		switch {
		case got < want:
			return decide(op, -1), nil
		case got > want:
			return decide(op, 1), nil
		}
		return decide(op, 0), nil
	}
}

func makeIP(op, value string) (test, error) {
	network, err := parseNetwork(value)
	if err != nil {
		return nil, err
	}
	return func(v any) (bool, error) {
		s, ok := v.(string)
		if !ok {
			return false, errWrong
		}
		got, err := netip.ParseAddr(s)
		if err != nil || got.Zone() != "" {
			return false, errWrong
		}
		return contains(network, got) == (op == "="), nil
	}, nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	host, bits, cidr := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, errors.New("not an address")
	}
	n := addr.BitLen()
	if cidr {
		n, err = strconv.Atoi(bits)
		if err != nil || n < 0 || n > addr.BitLen() || strings.ContainsAny(bits, "+-") {
			return netip.Prefix{}, fmt.Errorf("prefix size must be between 0 and %d", addr.BitLen())
		}
	}
	return netip.PrefixFrom(addr, n), nil
}

// contains compares by the kind that the network is written in. IPv6 that maps IPv4 counts as either.
func contains(network netip.Prefix, addr netip.Addr) bool {
	base := network.Addr()
	if base.Is4() {
		return network.Contains(addr.Unmap())
	}
	want, got := base.As16(), addr.As16()
	whole, rest := network.Bits()/8, network.Bits()%8
	if string(want[:whole]) != string(got[:whole]) {
		return false
	}
	return rest == 0 || (want[whole]^got[whole])>>(8-rest) == 0
}

func makeArray(_, value string) (test, error) {
	return func(v any) (bool, error) {
		items, ok := v.([]string)
		if !ok {
			return false, errWrong
		}
		return slices.Contains(items, value), nil
	}, nil
}
