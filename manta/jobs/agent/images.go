package agent

import (
	"cmp"
	"strconv"
	"strings"
)

// version is major.minor.patch. Tags behind it are not looked at.
type version [3]int

func (v version) compare(o version) int {
	return cmp.Or(cmp.Compare(v[0], o[0]), cmp.Compare(v[1], o[1]), cmp.Compare(v[2], o[2]))
}

// parseVersion reads up to three numbers and says how many there were; "x", "X" and "*" end them.
func parseVersion(s string) (v version, n int, ok bool) {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "="), "v")
	if i := strings.IndexAny(s, "-+"); i >= 0 {
		s = s[:i]
	}
	if s == "" {
		return v, 0, true
	}
	for i, part := range strings.Split(s, ".") {
		if part == "x" || part == "X" || part == "*" {
			return v, n, true
		}
		number, err := strconv.Atoi(part)
		if err != nil || number < 0 || i > 2 {
			return v, 0, false
		}
		v[i] = number
		n++
	}
	return v, n, true
}

// next is the first version behind all that begin with the first n numbers of v.
func (v version) next(n int) version {
	switch n {
	case 0:
		return version{1 << 30}
	case 1:
		return version{v[0] + 1}
	case 2:
		return version{v[0], v[1] + 1}
	}
	return version{v[0], v[1], v[2] + 1}
}

// imageMatches reports whether one of the versions is in a range as npm writes them: comparators, x, ~, ^, hyphens, ||. "" is any.
func imageMatches(want string, have []string) bool {
	for _, h := range have {
		v, n, ok := parseVersion(h)
		if !ok || n == 0 {
			continue
		}
		for alternative := range strings.SplitSeq(want, "||") {
			if inRange(v, alternative) {
				return true
			}
		}
	}
	return false
}

func inRange(v version, all string) bool {
	if low, high, ok := strings.Cut(all, " - "); ok {
		return compares(v, ">="+strings.TrimSpace(low)) && compares(v, "<="+strings.TrimSpace(high))
	}
	for _, op := range []string{">=", "<=", ">", "<", "~", "^", "="} {
		all = strings.ReplaceAll(all, op+" ", op) // "> 1" is one comparator
	}
	for c := range strings.FieldsSeq(all) {
		if !compares(v, c) {
			return false
		}
	}
	return true
}

// compares reports whether a version satisfies one comparator; a comparator that makes no sense is satisfied by none.
func compares(v version, c string) bool {
	op := c[:len(c)-len(strings.TrimLeft(c, "<>=~^"))]
	at, n, ok := parseVersion(c[len(op):])
	if !ok {
		return false
	}
	from, to := at, at.next(n)
	switch op {
	case ">=":
		return v.compare(from) >= 0
	case ">":
		return v.compare(to) >= 0
	case "<":
		return v.compare(from) < 0
	case "<=":
		return v.compare(to) < 0
	case "~", "~>":
		to = at.next(min(n, 2))
	case "^":
		keep := 1
		for keep < min(n, 3) && at[keep-1] == 0 {
			keep++
		}
		to = at.next(min(keep, n))
	case "", "=":
	default:
		return false
	}
	return v.compare(from) >= 0 && v.compare(to) < 0
}
