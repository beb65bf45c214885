package main

import (
	"fmt"
	"strings"

	"github.com/mobulacloud/mobula/zones"
)

// A usage line says how a command is called, to people and to parse alike:
//
//	[-F]  [-pH]  [-j|-1]   flags, which may be given together (-pH) and anywhere
//	[-t SECONDS]           a flag with a value; with "..." behind the bracket it may come again
//	UUID  NAME             arguments; one called UUID must be a uuid
//	[UUID]  [FIELD...]     an argument that may be missing, and any number of them
//	[ARG...]               the rest as it is: flags then stand before the first argument

// call is a command line, taken apart.
type call struct {
	// uuid is the argument of that name, args the others in order.
	uuid string
	args []string
	opts map[byte][]string
}

func (in call) has(flag byte) bool { return len(in.opts[flag]) > 0 }

// value is a flag's, or what it is without.
func (in call) value(flag byte, otherwise string) string {
	if v := in.opts[flag]; len(v) > 0 {
		return v[len(v)-1]
	}
	return otherwise
}

// syntax is a usage line, taken apart.
type syntax struct {
	flags      map[byte]bool // and whether it has a value
	again      map[byte]bool
	required   []string
	optional   []string
	rest       bool
	flagsFirst bool
}

func syntaxOf(usage string) syntax {
	s := syntax{flags: map[byte]bool{}, again: map[byte]bool{}}
	for usage = strings.TrimSpace(usage); usage != ""; usage = strings.TrimSpace(usage) {
		word := ""
		if inside, ok := strings.CutPrefix(usage, "["); ok {
			word, usage, _ = strings.Cut(inside, "]")
			after, again := strings.CutPrefix(usage, "...")
			usage = after
			switch names, value, valued := strings.Cut(word, " "); {
			case !strings.HasPrefix(word, "-") && word == "ARG...":
				s.rest, s.flagsFirst = true, true
			case !strings.HasPrefix(word, "-") && strings.HasSuffix(word, "..."):
				s.rest = true
			case !strings.HasPrefix(word, "-"):
				s.optional = append(s.optional, word)
			default:
				for _, c := range []byte(strings.NewReplacer("-", "", "|", "").Replace(names)) {
					s.flags[c], s.again[c] = valued && value != "", again
				}
			}
			continue
		}
		word, usage, _ = strings.Cut(usage, " ")
		s.required = append(s.required, word)
	}
	return s
}

// parse takes a command line apart by its usage.
func parse(usage string, args []string) (call, error) {
	s := syntaxOf(usage)
	in := call{opts: map[byte][]string{}}
	var words []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		if len(a) < 2 || a[0] != '-' || s.flagsFirst && len(words) > 0 {
			words = append(words, a)
			continue
		}
		for j := 1; j < len(a); j++ {
			valued, known := s.flags[a[j]]
			if !known {
				return in, usageError(fmt.Sprintf("there is no flag -%c", a[j]))
			}
			v := ""
			if valued {
				if v = a[j+1:]; v == "" {
					if i++; i == len(args) {
						return in, usageError(fmt.Sprintf("-%c wants a value", a[j]))
					}
					v = args[i]
				}
			}
			if in.has(a[j]) && valued && !s.again[a[j]] {
				return in, usageError(fmt.Sprintf("-%c was given twice", a[j]))
			}
			in.opts[a[j]] = append(in.opts[a[j]], v)
			if valued {
				break
			}
		}
	}
	if len(words) < len(s.required) {
		return in, usageError("wants " + strings.Join(s.required, " "))
	}
	names := append(append([]string(nil), s.required...), s.optional...)
	for i, w := range words {
		switch {
		case i < len(names) && names[i] == "UUID":
			if !zones.ValidID(w) {
				return in, usageError(fmt.Sprintf("%.60q is not a uuid", w))
			}
			in.uuid = w
		case i < len(names) || s.rest:
			in.args = append(in.args, w)
		default:
			return in, usageError(fmt.Sprintf("%.60q is too much", w))
		}
	}
	return in, nil
}
