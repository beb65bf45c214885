package picker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mobulacloud/mobula/storage"
)

// A NotEnoughSpaceError says that no choice of nodes satisfies a request. It is [storage.ErrNoSpace].
type NotEnoughSpaceError struct {
	Size        int64 // bytes that each copy needs
	Copies      int
	Eligible    int          // nodes that could take a copy
	Datacenters int          // datacentres in which they are
	Refused     map[Rule]int // how many nodes were refused by each rule

	// Unreachable says that there would be a choice if the nodes that are down or have not reported were back: the condition is likely
	// to pass by itself.
	Unreachable bool
}

// Megabytes returns the room that was asked for in MiB, rounded up, as the original's message tells it.
func (e *NotEnoughSpaceError) Megabytes() int64 { return (e.Size + 1<<20 - 1) >> 20 }

func (e *NotEnoughSpaceError) Error() string {
	var why []string
	for rule, n := range e.Refused {
		why = append(why, fmt.Sprintf("%s %d", rule, n))
	}
	slices.Sort(why)
	if len(why) == 0 {
		why = []string{"none"}
	}
	return fmt.Sprintf("picker: not enough free space for %d MB in %d copies: %d nodes in %d datacentres are eligible, refused: %s",
		e.Megabytes(), e.Copies, e.Eligible, e.Datacenters, strings.Join(why, ", "))
}

// Is makes the error match [storage.ErrNoSpace].
func (e *NotEnoughSpaceError) Is(target error) bool { return target == storage.ErrNoSpace }

// Explain returns a verdict on every node, ordered by datacentre and then by falling free space.
func (v *View) Explain(req Request) []Verdict {
	verdicts := make([]Verdict, len(v.reports))
	for i := range v.reports {
		rule, detail := v.judge(&v.reports[i], &req)
		verdicts[i] = Verdict{Shark: v.reports[i].Shark, Rule: rule, Detail: detail}
	}
	return verdicts
}

// judge applies all rules to one node.
func (v *View) judge(r *Report, req *Request) (Rule, string) {
	if excluded(req, r.Node) {
		return Excluded, "not wanted, or holds a copy"
	}
	if rule, detail := v.standing(r, v.limit(req)); rule != "" {
		return rule, detail
	}
	return v.room(r, req)
}

func (v *View) room(r *Report, req *Request) (Rule, string) {
	if need := v.need(req); r.Available < need {
		return Space, fmt.Sprintf("%d bytes free, %d needed", r.Available, need)
	}
	return "", ""
}

// refuse explains why there is no tuple. It looks at every node, which only the refused request pays for.
func (v *View) refuse(req *Request) *NotEnoughSpaceError {
	e := &NotEnoughSpaceError{Size: v.need(req), Copies: req.Copies, Refused: map[Rule]int{}}
	var here, back []storage.Shark // eligible now; eligible if the unreachable came back
	for i := range v.reports {
		r := &v.reports[i]
		rule, _ := v.judge(r, req)
		if rule == "" {
			here = append(here, r.Shark)
			back = append(back, r.Shark)
			continue
		}
		e.Refused[rule]++
		if rule == Down || rule == Stale {
			full, _ := v.fullness(r, v.limit(req))
			small, _ := v.room(r, req)
			if full == "" && small == "" {
				back = append(back, r.Shark)
			}
		}
	}
	e.Eligible = len(here)
	e.Datacenters = len(datacenters(here))
	all := datacenters(slices.Concat(req.Beside, back))
	e.Unreachable = len(back) >= req.Copies && v.spans(req, all)
	return e
}
