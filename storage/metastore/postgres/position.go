package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A snapshot says which transactions a statement sees (pg_snapshot): all below xmin, and those below xmax that are not listed.
type snapshot struct {
	xmin, xmax uint64
	running    []uint64 // ascending
}

// nothing sees no transaction.
var nothing = snapshot{xmin: 1, xmax: 1}

func parseSnapshot(text string) (s snapshot, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("%w: snapshot", metastore.ErrInvalid)
	}
	s.xmin, err = parseXid(parts[0], err)
	s.xmax, err = parseXid(parts[1], err)
	if parts[2] != "" {
		for x := range strings.SplitSeq(parts[2], ",") {
			var xid uint64
			xid, err = parseXid(x, err)
			s.running = append(s.running, xid)
		}
	}
	// What PostgreSQL would refuse is refused here.
	ok := err == nil && s.xmin >= 1 && s.xmin <= s.xmax && slices.IsSorted(s.running)
	if ok && len(s.running) > 0 {
		ok = s.running[0] >= s.xmin && s.running[len(s.running)-1] < s.xmax
	}
	if !ok {
		return s, fmt.Errorf("%w: snapshot", metastore.ErrInvalid)
	}
	return s, nil
}

func parseXid(text string, before error) (uint64, error) {
	if before != nil {
		return 0, before
	}
	return strconv.ParseUint(text, 10, 64)
}

func (s snapshot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:%d:", s.xmin, s.xmax)
	for i, x := range s.running {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(x, 10))
	}
	return b.String()
}

// sees reports whether a transaction is visible.
func (s snapshot) sees(xid uint64) bool {
	if xid < s.xmin || xid >= s.xmax {
		return xid < s.xmin
	}
	_, running := slices.BinarySearch(s.running, xid)
	return !running
}

// with returns the snapshot that sees one transaction more.
func (s snapshot) with(xid uint64) snapshot {
	running := slices.Clone(s.running)
	if i, ok := slices.BinarySearch(running, xid); ok {
		s.running = slices.Delete(running, i, i+1)
		return s
	}
	if xid < s.xmax {
		return s
	}
	for x := s.xmax; x < xid; x++ {
		running = append(running, x)
	}
	s.xmax, s.running = xid+1, running
	return s
}

// A place is a position taken apart: everything that from sees is behind it, and of what to sees besides, everything up to change n
// of transaction xid. Between two rounds of reading from and to are the same.
type place struct {
	from, to snapshot
	xid      uint64
	n        int32
}

func (p place) settled() bool { return p.xid == 0 }

func (s *Store) position(p place) metastore.Position {
	if p.settled() {
		return metastore.Position(s.identity + "/" + p.from.String())
	}
	return metastore.Position(fmt.Sprintf("%s/%s/%s/%d/%d", s.identity, p.from, p.to, p.xid, p.n))
}

func (s *Store) parsePosition(text metastore.Position) (p place, err error) {
	if text == "" {
		return place{from: nothing, to: nothing}, nil
	}
	parts := strings.Split(string(text), "/")
	if len(parts) != 2 && len(parts) != 5 {
		return p, fmt.Errorf("%w: position %.80q", metastore.ErrInvalid, text)
	}
	p.from, err = parseSnapshot(parts[1])
	p.to = p.from
	if err == nil && len(parts) == 5 {
		var n int64
		if p.to, err = parseSnapshot(parts[2]); err == nil {
			p.xid, err = strconv.ParseUint(parts[3], 10, 64)
		}
		if err == nil {
			n, err = strconv.ParseInt(parts[4], 10, 32)
			p.n = int32(n)
		}
	}
	if err != nil {
		return p, fmt.Errorf("%w: position %.80q", metastore.ErrInvalid, text)
	}
	if parts[0] != s.identity {
		return p, fmt.Errorf("%w: it is of another store, or of this one before it was restored", metastore.ErrPositionGone)
	}
	return p, nil
}
