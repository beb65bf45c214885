package engine

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Encode returns a value of a filter or query in the form that indexes store: bytes that compare as the values do.
// The lengths are: string as it is, number 8, boolean 1, date 12, uuid 16, ip 5 or 17, subnet 6 or 18, mac 6.
func Encode(t metastore.IndexType, v any) ([]byte, error) {
	switch t {
	case metastore.Number:
		f, err := toNumber(v)
		if err != nil {
			return nil, err
		}
		return appendNumber(nil, f), nil
	case metastore.Boolean:
		switch v := v.(type) {
		case bool:
			return appendBool(nil, v), nil
		case string:
			if v == "true" || v == "false" {
				return appendBool(nil, v == "true"), nil
			}
		}
		return nil, notA(t)
	case metastore.Date:
		if v, ok := v.(time.Time); ok {
			return appendDate(nil, v), nil
		}
	}
	s, ok := v.(string)
	if !ok {
		if t != metastore.String {
			return nil, notA(t)
		}
		s = metastore.FormatValue(v)
	}
	if t == metastore.UUID || t == metastore.MAC {
		s = strings.ToLower(s)
	}
	return appendText(nil, t, s)
}

// encodeJSON appends the index form of a JSON scalar of a record.
func encodeJSON(dst []byte, t metastore.IndexType, raw []byte) ([]byte, error) {
	switch t {
	case metastore.Number:
		if raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9' {
			f, err := strconv.ParseFloat(string(raw), 64)
			if err != nil {
				return dst, fmt.Errorf("%w: number out of range", metastore.ErrInvalid)
			}
			return appendNumber(dst, f), nil
		}
	case metastore.Boolean:
		if raw[0] == 't' || raw[0] == 'f' {
			return appendBool(dst, raw[0] == 't'), nil
		}
	default:
		if raw[0] == '"' {
			return appendText(dst, t, unquote(raw))
		}
	}
	return dst, notA(t)
}

func notA(t metastore.IndexType) error {
	return fmt.Errorf("%w: value is not a %s", metastore.ErrInvalid, t)
}

// appendText appends the index form of a type whose JSON form is a string.
func appendText(dst []byte, t metastore.IndexType, s string) ([]byte, error) {
	switch t {
	case metastore.String:
		return append(dst, s...), nil
	case metastore.Date:
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return dst, notA(t)
		}
		return appendDate(dst, at), nil
	case metastore.UUID:
		if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || s != strings.ToLower(s) {
			return dst, notA(t)
		}
		b, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
		if err != nil {
			return dst, notA(t)
		}
		return append(dst, b...), nil
	case metastore.IP:
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return dst, notA(t)
		}
		return appendIP(dst, a), nil
	case metastore.Subnet:
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Masked() != p {
			return dst, notA(t)
		}
		return append(appendIP(dst, p.Addr()), byte(p.Bits())), nil
	case metastore.MAC:
		if len(s) != 17 || s != strings.ToLower(s) {
			return dst, notA(t)
		}
		for i := 2; i < len(s); i += 3 {
			if s[i] != ':' {
				return dst, notA(t)
			}
		}
		b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
		if err != nil || len(b) != 6 {
			return dst, notA(t)
		}
		return append(dst, b...), nil
	}
	return dst, notA(t)
}

func appendNumber(dst []byte, f float64) []byte {
	bits := math.Float64bits(f + 0) // -0 + 0 is 0: one zero, one encoding
	if bits>>63 != 0 {
		bits = ^bits
	} else {
		bits |= 1 << 63
	}
	return binary.BigEndian.AppendUint64(dst, bits)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendDate(dst []byte, at time.Time) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(at.Unix())^1<<63)
	return binary.BigEndian.AppendUint32(dst, uint32(at.Nanosecond()))
}

func appendIP(dst []byte, a netip.Addr) []byte {
	if a.Is4() {
		b := a.As4()
		return append(append(dst, 4), b[:]...)
	}
	b := a.As16()
	return append(append(dst, 6), b[:]...)
}

func toNumber(v any) (float64, error) {
	switch v := v.(type) {
	case float64:
		if math.IsNaN(v) {
			return 0, notA(metastore.Number)
		}
		return v, nil
	case string:
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return 0, notA(metastore.Number)
		}
		return f, nil
	case bool, time.Time, nil:
		return 0, notA(metastore.Number)
	}
	// The other integer and float types, by their text.
	f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	if err != nil || math.IsNaN(f) {
		return 0, notA(metastore.Number)
	}
	return f, nil
}

// unquote returns the text of a valid JSON string.
func unquote(raw []byte) string {
	inner := raw[1 : len(raw)-1]
	for _, c := range inner {
		if c == '\\' {
			var s string
			if json.Unmarshal(raw, &s) != nil {
				return ""
			}
			return s
		}
	}
	return string(inner)
}
