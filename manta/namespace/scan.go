package namespace

import (
	"encoding/json"
	"errors"
	"strconv"
	"unsafe"
)

// A listing reads a thousand records, so they are not unmarshalled by reflection but by this scanner over the fields of a JSON object. It relies
// on the store's word that a value is valid JSON, and stays within bounds when it is not.

var errRecord = errors.New("namespace: record is not a JSON object")

// scanObject calls field with each name (undecoded, without quotes) and raw value of a JSON object.
func scanObject(b []byte, field func(name string, value []byte) error) error {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return errRecord
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return nil
	}
	for i < len(b) && b[i] == '"' {
		nameEnd := skipValue(b, i)
		if nameEnd < i+2 {
			return errRecord
		}
		name := b[i+1 : nameEnd-1]
		i = skipSpace(b, nameEnd)
		if i >= len(b) || b[i] != ':' {
			return errRecord
		}
		i = skipSpace(b, i+1)
		end := skipValue(b, i)
		if end <= i {
			return errRecord
		}
		if err := field(unsafe.String(unsafe.SliceData(name), len(name)), b[i:end]); err != nil {
			return err
		}
		i = skipSpace(b, end)
		if i >= len(b) {
			return errRecord
		}
		if b[i] == '}' {
			return nil
		}
		if b[i] != ',' {
			return errRecord
		}
		i = skipSpace(b, i+1)
	}
	return errRecord
}

// scanArray calls item with each raw element of a JSON array.
func scanArray(b []byte, item func(value []byte) error) error {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '[' {
		return errRecord
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == ']' {
		return nil
	}
	for i < len(b) {
		end := skipValue(b, i)
		if end <= i {
			return errRecord
		}
		if err := item(b[i:end]); err != nil {
			return err
		}
		i = skipSpace(b, end)
		if i < len(b) && b[i] == ']' {
			return nil
		}
		if i >= len(b) || b[i] != ',' {
			return errRecord
		}
		i = skipSpace(b, i+1)
	}
	return errRecord
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the value that begins at i, or -1.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		for j := i + 1; j < len(b); j++ {
			switch b[j] {
			case '\\':
				j++
			case '"':
				return j + 1
			}
		}
		return -1
	case '{', '[':
		depth := 0
		for j := i; j < len(b); j++ {
			switch b[j] {
			case '"':
				end := skipValue(b, j)
				if end < 0 {
					return -1
				}
				j = end - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return j + 1
				}
			}
		}
		return -1
	}
	j := i
	for j < len(b) && b[j] != ',' && b[j] != '}' && b[j] != ']' && b[j] != ' ' && b[j] != '\n' && b[j] != '\t' && b[j] != '\r' {
		j++
	}
	return j
}

// stringValue returns a JSON string's content as a string of its own.
func stringValue(v []byte) (string, error) {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return "", errRecord
	}
	inner := v[1 : len(v)-1]
	for _, c := range inner {
		if c == '\\' {
			var s string
			err := json.Unmarshal(v, &s)
			return s, err
		}
	}
	return string(inner), nil
}

func intValue(v []byte) (int64, error) {
	n, err := strconv.ParseInt(unsafe.String(unsafe.SliceData(v), len(v)), 10, 64)
	if err == nil {
		return n, nil
	}
	// A store may write a number in another form, such as 1e3.
	f, err := strconv.ParseFloat(string(v), 64)
	return int64(f), err
}
