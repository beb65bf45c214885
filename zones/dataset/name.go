package dataset

import "fmt"

// MaxName is the longest name of a dataset or snapshot, in bytes.
const MaxName = 128

// ValidName checks the name of a dataset: 1 to [MaxName] bytes of A-Z a-z 0-9 . _ -, the first a letter or digit.
// The error matches [ErrBadName].
func ValidName(name string) error { return valid("dataset", name, "") }

// ValidSnapshot checks the name of a snapshot, which may also hold : and %, as vmadm allows it.
func ValidSnapshot(name string) error { return valid("snapshot", name, ":%") }

func valid(what, name, extra string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("%s %.40q: %w: 1 to %d bytes", what, name, ErrBadName, MaxName)
	}
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		mark := c == '.' || c == '_' || c == '-' || extra != "" && (c == extra[0] || c == extra[1])
		if !alnum && (!mark || i == 0 && what == "dataset") || i == 0 && c == '.' {
			return fmt.Errorf("%s %q: %w: byte %d", what, name, ErrBadName, i)
		}
	}
	return nil
}
