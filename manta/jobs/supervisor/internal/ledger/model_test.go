package ledger

import (
	"fmt"
	"hash/fnv"
	"sort"
	"strings"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

const stor = "/u/jobs/j/stor/"

// sum is what decides, by an input's path, what comes of it.
func sum(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// gone reports whether an input does not exist.
func gone(path string) bool { return sum("gone"+path)%11 == 0 }

// program is what a map task does with an input: what it emits, or false if it fails.
func program(phases []jobs.Phase, phase int, path string) ([]task.Emit, bool) {
	x := sum(fmt.Sprint("run", phase, path))
	if x%13 == 0 {
		return nil, false
	}
	var out []task.Emit
	for i := range int(x / 16 % 4) {
		e := task.Emit{Reducer: -1}
		switch x / 64 % 5 {
		case 0:
			e.Path = path // by reference, and several times where that makes no two tasks of one name
			if i > 0 && phase+1 < len(phases) && phases[phase+1].Type == jobs.Map {
				e.Path = fmt.Sprintf("%sy%x.%d.%d", stor, sum(path), phase, i)
			}
		case 1:
			e.Path = fmt.Sprintf("/u/stor/named%x.%d.%d", sum(path), phase, i)
		default:
			e.Path = fmt.Sprintf("%sx%x.%d.%d", stor, sum(path), phase, i)
		}
		if phase+1 < len(phases) && phases[phase+1].Type == jobs.Reduce {
			e.Reducer = int(sum(e.Path) % uint64(phases[phase+1].Reducers()))
			if x%7 == 0 {
				e.Reducer = phases[phase+1].Reducers() + i
			}
		}
		out = append(out, e)
	}
	return out, true
}

// reduce is what a reducer does: its output tells of all its input.
func reduce(phases []jobs.Phase, phase, index int, inputs []string) ([]task.Emit, bool) {
	sort.Strings(inputs)
	path := fmt.Sprintf("%sr%d.%d.%x", stor, phase, index, sum(strings.Join(inputs, "\n")))
	e := task.Emit{Path: path, Reducer: -1}
	if phase+1 < len(phases) && phases[phase+1].Type == jobs.Reduce {
		e.Reducer = int(sum(path) % uint64(phases[phase+1].Reducers()))
	}
	return []task.Emit{e}, sum(path)%9 != 0
}

// A verdict is how a job ends.
type verdict struct {
	Outputs []string // sorted
	Errors  []string // sorted
	Left    []string // intermediate objects that stay
	Read    int64
	Tasks   int64
}

// expected computes straight how a job ends.
func expected(phases []jobs.Phase, inputs []string) verdict {
	v := verdict{Read: int64(len(inputs))}
	type in struct {
		path, origin string
		reducer      int
	}
	var now []in
	for _, p := range inputs {
		now = append(now, in{p, p, -1})
	}
	made := map[string]bool{}
	kept := map[string]bool{}
	fail := func(phase int, code string, input, origin string) {
		v.Errors = append(v.Errors, fmt.Sprintf("%d %s %s %s", phase, code, input, origin))
	}
	for i := range phases {
		var next []in
		emit := func(origin string, list []task.Emit) {
			for _, e := range list {
				if i+1 == len(phases) {
					v.Outputs = append(v.Outputs, e.Path)
					kept[e.Path] = true
					continue
				}
				next = append(next, in{e.Path, origin, e.Reducer})
				if strings.HasPrefix(e.Path, stor) {
					made[e.Path] = true
				}
			}
		}
		if n := phases[i].Reducers(); n > 0 {
			lists := make([][]string, n)
			for k, x := range now {
				r := x.reducer
				if r < 0 {
					r = k % n
				}
				switch {
				case r >= n:
					fail(i, jobs.CodeInvalidArgument, x.path, x.origin)
					kept[x.path] = true
				case gone(x.path):
					fail(i, jobs.CodeResourceNotFound, x.path, x.origin)
				default:
					lists[r] = append(lists[r], x.path)
				}
			}
			for r, list := range lists {
				v.Tasks++
				if out, ok := reduce(phases, i, r, list); ok {
					emit("", out)
				} else {
					fail(i, jobs.CodeUserTask, "", "")
				}
			}
		} else {
			for _, x := range now {
				if gone(x.path) {
					fail(i, jobs.CodeResourceNotFound, x.path, x.origin)
					continue
				}
				v.Tasks++
				if out, ok := program(phases, i, x.path); ok {
					emit(x.origin, out)
				} else {
					fail(i, jobs.CodeUserTask, x.path, x.origin)
				}
			}
		}
		now = next
	}
	for p := range made {
		if kept[p] {
			v.Left = append(v.Left, p)
		}
	}
	sort.Strings(v.Outputs)
	sort.Strings(v.Errors)
	sort.Strings(v.Left)
	return v
}
