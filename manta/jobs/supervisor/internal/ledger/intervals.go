package ledger

import "slices"

// intervals is a set of numbers that are mostly dense.
type intervals struct {
	spans []span // ordered, apart from each other
	count int64
}

type span struct{ from, to int64 } // to is not in it

// at returns the index of the first span that ends after n.
func (s *intervals) at(n int64) int {
	i, _ := slices.BinarySearchFunc(s.spans, n, func(sp span, n int64) int {
		if sp.to <= n {
			return -1
		}
		return 1
	})
	return i
}

func (s *intervals) has(n int64) bool {
	i := s.at(n)
	return i < len(s.spans) && s.spans[i].from <= n
}

// add puts a number in and reports whether it was not there before.
func (s *intervals) add(n int64) bool {
	i := s.at(n)
	if i < len(s.spans) && s.spans[i].from <= n {
		return false
	}
	s.count++
	left := i > 0 && s.spans[i-1].to == n
	right := i < len(s.spans) && s.spans[i].from == n+1
	switch {
	case left && right:
		s.spans[i-1].to = s.spans[i].to
		s.spans = slices.Delete(s.spans, i, i+1)
	case left:
		s.spans[i-1].to++
	case right:
		s.spans[i].from--
	default:
		s.spans = slices.Insert(s.spans, i, span{n, n + 1})
	}
	return true
}

// next returns the first number from n on that is not in the set.
func (s *intervals) next(n int64) int64 {
	if i := s.at(n); i < len(s.spans) && s.spans[i].from <= n {
		return s.spans[i].to
	}
	return n
}
