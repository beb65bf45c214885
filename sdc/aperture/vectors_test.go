package aperture

import (
	"encoding/json"
	"os"
	"testing"
	"time"
)

// vectors are what the original makes of rules; testdata/vectors.js says how.
type vectors struct {
	Contexts []struct {
		Principal, Action, Resource string
		Conditions                  map[string]any
	}
	Rules []struct {
		Text    string
		Parses  bool
		Answers []string // yes, no, error
	}
}

var vectorTypes = Types{"sourceip": IP, "date": Date, "day": Day, "time": Time, "method": String, "overwrite": Boolean, "activeRoles": Array, "n": Number}

// differences are the rules that this package takes another way, on purpose.
var differences = map[string]string{
	"CAN a, b":                               "a list may go without its final AND",
	"CAN g*t":                                "an asterisk stands for a part of the whole word, which must match from end to end",
	`CAN getobject \*`:                       "an escaped asterisk alone is one; the original makes an invalid expression of it",
	`CAN "a`:                                 "a quote that does not end is a mistake, not a character",
	"CAN * WHEN n::string = 31":              "a number is not compared as a string; both answers are no",
	`CAN * WHEN method like "/^(GET|PUT)$/"`: "quotes may hold parentheses, as the original's manual says",
}

func readVectors(t testing.TB) *vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Contexts {
		for name, value := range c.Conditions {
			switch value := value.(type) {
			case string:
				if at, err := time.Parse(time.RFC3339, value); err == nil {
					c.Conditions[name] = at
				}
			case []any:
				list := make([]string, len(value))
				for i := range value {
					list[i] = value[i].(string)
				}
				c.Conditions[name] = list
			}
		}
	}
	return v
}

func TestDecidesLikeTheOriginal(t *testing.T) {
	v := readVectors(t)
	different := map[string]bool{}
	for _, want := range v.Rules {
		rule, err := Parse(want.Text, vectorTypes)
		if (err == nil) != want.Parses {
			if differences[want.Text] != "" {
				different[want.Text] = true
				continue
			}
			t.Errorf("Parse(%q) = %v, but the original says %v", want.Text, err, want.Parses)
		}
		if err != nil || !want.Parses {
			continue
		}
		for i, c := range v.Contexts {
			ok, err := rule.Evaluate(Request{Principal: c.Principal, Action: c.Action, Resource: c.Resource, Conditions: Values(c.Conditions)})
			got := "no"
			switch {
			case err != nil:
				got = "error"
			case ok:
				got = "yes"
			}
			if got != want.Answers[i] && differences[want.Text] != "" {
				different[want.Text] = true
			} else if got != want.Answers[i] {
				t.Errorf("%q of request %d = %s (%v), want %s", want.Text, i, got, err, want.Answers[i])
			}
		}
	}
	for text := range differences {
		if !different[text] {
			t.Errorf("%q is not decided differently any more", text)
		}
	}
}
