package aperture

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func decides(t *testing.T, typ Type, context any, op, value string) (string, error) {
	t.Helper()
	p := printer{}
	p.WriteString("CAN x WHEN c::" + string(typ) + " ")
	p.word(op, tokWord)
	p.WriteByte(' ')
	p.word(value, tokWord, tokGlob, tokStar)
	rule, err := Parse(p.String(), nil)
	if err != nil {
		return "refused", err
	}
	ok, err := rule.Evaluate(Request{Action: "x", Conditions: Values{"c": context}})
	switch {
	case err != nil:
		return "error", err
	case ok:
		return "yes", nil
	}
	return "no", nil
}

func TestTypes(t *testing.T) {
	thursday := time.Date(2013, 10, 24, 0, 0, 0, 0, time.UTC)
	sunday := time.Date(2013, 10, 27, 23, 0, 0, 0, time.UTC)
	noon := time.Date(2013, 10, 24, 12, 0, 0, 0, time.FixedZone("", 0))
	type c struct {
		typ     Type
		context any
		op      string
		value   string
		want    string
	}
	var cases []c
	add := func(typ Type, context any, want string, pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			cases = append(cases, c{typ, context, pairs[i], pairs[i+1], want})
		}
	}
	add(IP, "192.168.1.1", "yes", "=", "192.168.1.1", "=", "192.168.1.0/24", "=", "::ffff:c0a8:101", "=", "::ffff:c0a8:0/16", "=", "::ffff:192.168.1.1/128", "!=", "10.0.0.0/8", "=", "0.0.0.0/0")
	add(IP, "::ffff:c0a8:101", "yes", "=", "192.168.1.1", "=", "192.168.1.0/24", "=", "::ffff:c0a8:101", "=", "::ffff:c0a8:0/112")
	add(IP, "192.168.1.1", "no", "=", "192.168.1.2", "=", "192.168.2.0/24", "=", "::ffff:c0a8:102", "=", "::ffff:c0a9:0/112", "!=", "192.168.0.0/16", "=", "2001:db8::/32")
	add(IP, "::ffff:c0a8:101", "no", "=", "192.168.1.2", "=", "192.168.2.0/24", "=", "::ffff:c0a8:102", "=", "::ffff:c0a9:0/112")
	add(IP, "2001:db8::1", "no", "=", "192.168.1.2", "=", "0.0.0.0/0")
	add(IP, "2001:db8:0:ffff::1", "yes", "=", "2001:db8::/47", "=", "::/0")
	add(IP, "192.168.1.1", "refused", "=", "192.168.1.1/128", "=", "::ffff:192.168.1.1/129", "=", "asdf", "=", "300.1.2.3", "=", "10.0.0.0/-1", "=", "10.0.0.0/+8", "=", "10.0.0.0/", "=", "fe80::1%eth0", "<", "10.0.0.1", "like", "10.0.0.1")
	add(IP, "nonsense", "error", "=", "192.168.1.1", "!=", "192.168.1.1")
	add(String, "a", "yes", "=", "a", "<", "b", "<=", "a", ">=", "a", "like", "/a/", "like", "/A/i", "like", "/^[a-z]$/", "!=", "b", "like", "//")
	add(String, "a", "no", "=", "b", ">", "b", "<", "a", "like", "/A/", "like", "/b/", "!=", "a")
	add(String, "a", "refused", "like", "/*a/", "like", "a", "like", "/a", "like", "a/b/", "like", "/a/q", "like", "/a/ii", "~", "a", "contains", "a")
	add(String, 5, "error", "=", "5")
	add(Number, 5, "yes", "=", "5", "<", "6", ">", "4", "<=", "5", ">=", "5", "!=", "6", "=", "5.0", "=", "05", "=", "0x5", "=", "0b101", "=", "5e0")
	add(Number, int64(31), "yes", "=", "0x1F", "=", " 31 ", ">", "")
	add(Number, 5.0, "no", "=", "6", "<", "5", "!=", "5")
	add(Number, 5.0, "refused", "=", "asdf", "=", "3*3", "=", "9,9", "=", "NaN", "=", "1_0", "=", "0x", "=", "1e999", "like", "5")
	add(Number, "5", "error", "=", "5")
	add(Boolean, true, "yes", "=", "true", "!=", "false")
	add(Boolean, false, "yes", "=", "false", "!=", "true")
	add(Boolean, true, "no", "=", "false", "!=", "true")
	add(Boolean, true, "refused", "=", "TRUE", "=", "1", "<", "true")
	add(Boolean, "true", "error", "=", "true")
	add(Date, thursday, "yes", "=", "2013-10-24", "<", "2013-10-25", ">", "2013-10-23", "<=", "2013-10-24", ">=", "2013-10-24", "=", "2013-10-24T00:00:00", "=", "2013-10-24T02:00:00+02:00",
		"=", "Thu, 24 Oct 2013 00:00:00 GMT", "=", "Oct 24, 2013", "=", "24 October 2013", "=", "Thu, 24 Oct 2013 02:00:00 +0200")
	add(Date, thursday, "no", "=", "1000-10-10", "<", "2013-10-23", ">", "2013-10-25")
	add(Date, thursday, "refused", "=", "asdf", "=", "12:32:00", "=", "20", "=", "Thu, 24 Oct 2013 00:00:00 PST", "=", strings.Repeat("2", 100))
	add(Date, "2013-10-24", "error", "=", "2013-10-24")
	add(Day, thursday, "yes", "=", "Thursday", "=", "th", "=", "4", "<", "Friday", ">", "wed", "<=", "thu", "=", "2013-06-06", "!=", "SU")
	add(Day, sunday, "yes", "=", "7", ">", "Monday", "=", "Sun")
	add(Day, thursday, "no", "=", "Friday", ">", "4")
	add(Day, thursday, "refused", "=", "0", "=", "8", "=", "1.5", "=", "asdf", "=", "2013")
	add(Day, 4, "error", "=", "4")
	add(Time, noon, "yes", "=", "12:00:00", "<", "12:00:01", ">", "11:59:59", "<=", "14:00:00", "=", "2001-01-01T12:00:00Z", ">=", "9:5:1")
	add(Time, noon, "no", "=", "12:00:01", "<", "11:59:59")
	add(Time, noon, "refused", "=", "asdf", "=", "20", "=", "20:00", "=", "24:00:01", "=", "2013-06-01T24:00:01")
	add(Time, 12, "error", "=", "12:00:00")
	add(Array, []string{"a", "b"}, "yes", "contains", "b")
	add(Array, []string{"a", "b"}, "no", "contains", "c")
	add(Array, []string{"a"}, "refused", "=", "a", "in", "a")
	add(Array, "a", "error", "contains", "a")
	add("blob", "a", "refused", "=", "a")
	for _, tt := range cases {
		if got, err := decides(t, tt.typ, tt.context, tt.op, tt.value); got != tt.want {
			t.Errorf("%s: %v %s %q = %s (%v), want %s", tt.typ, tt.context, tt.op, tt.value, got, err, tt.want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		glob, text string
		want       bool
	}{
		{"ops_*", "ops_x", true}, {"ops_*", "ops_", true}, {"ops_*", "dev_ops_x", false}, {"*.js", "a.js", true}, {"*.js", "a.json", false},
		{"Ra*chel", "Rachel", true}, {"Ra*chel", "RaXYchel", true}, {"Ra*chel", "Rachelle", false}, {`\*Nsync`, "*Nsync", true}, {`\*Nsync`, "xNsync", false},
		{`as\*d*f`, "as*dxyf", true}, {`as\*d*f`, "asxdxyf", false}, {"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "a-b-c", true}, {"a*b*c", "acb", false},
		{"**", "", true}, {"a**b", "ab", true}, {"/demo/*/x", "/demo/stor/a/b/x", true}, {"a.*", "ab", false}, {"a*b*b", "ab", false}, {"*a*", "bab", true},
	} {
		rule, err := Parse("CAN "+tt.glob, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.glob, err)
			continue
		}
		if got, _ := rule.Evaluate(Request{Action: tt.text}); got != tt.want {
			t.Errorf("%s matches %q = %v", tt.glob, tt.text, got)
		}
	}
}

func TestRegexpOfJavaScript(t *testing.T) {
	for _, tt := range []struct {
		literal string
		yes, no []string
	}{
		{`/a.c/`, []string{"abc", "xabcx"}, []string{"a\nc", "a\rc", "a\u2028c", "ac"}},
		{`/a.c/s`, []string{"a\nc"}, []string{"ac"}},
		{`/^a$/`, []string{"a"}, []string{"a\n", "b\na"}},
		{`/^a$/m`, []string{"a", "b\na\nc"}, []string{"ab"}},
		{`/a/y`, []string{"ab"}, []string{"ba"}},
		{`/a/gi`, []string{"A"}, []string{"b"}},
		{`/[[]/`, []string{"["}, []string{"]"}},
		{`/[^]/`, []string{"\n", "x"}, []string{""}},
		{`/[]/`, nil, []string{"", "x"}},
		{`/[^a]/`, []string{"b"}, []string{"a"}},
		{`/[a\-z]/`, []string{"-", "a"}, []string{"m"}},
		{`/[\b]/`, []string{"\b"}, []string{"b"}},
		{`/\bfoo\b/`, []string{"a foo b"}, []string{"food"}},
		{`/\//`, []string{"/"}, []string{"x"}},
		{`/\x41\u0042\cJ\0/`, []string{"AB\n\x00"}, []string{"AB"}},
		{`/\e\A\z\Q/`, []string{"eAzQ"}, []string{""}},
		{`/(?:a|b)(?<n>c)/`, []string{"bc"}, []string{"b"}},
		{`/a{2,3}\{x/`, []string{"aa{x"}, []string{"a{x"}},
		{`/\d+\s\w/`, []string{"12 x"}, []string{"x y"}},
		{`/\u00e9/i`, []string{"É"}, []string{"e"}},
		{`/\uzz/`, []string{"uzz"}, []string{"zz"}},
	} {
		re, err := compileLiteral(tt.literal)
		if err != nil {
			t.Errorf("%s: %v", tt.literal, err)
			continue
		}
		for _, s := range tt.yes {
			if !re.MatchString(s) {
				t.Errorf("%s does not match %q", tt.literal, s)
			}
		}
		for _, s := range tt.no {
			if re.MatchString(s) {
				t.Errorf("%s matches %q", tt.literal, s)
			}
		}
	}
	for _, literal := range []string{
		`/(a)\1/`, `/(?=a)/`, `/(?!a)/`, `/(?<=a)/`, `/(?<!a)/`, `/(?i)a/`, `/(?P<n>a)/`, `/\k<n>/`, `/\p{L}/`, `/a/x`, `/a/ii`, `/(/`, `/[/`, `/a\`, `/*/`, `/\ud800/`,
		`a`, `/`, ``, `/` + strings.Repeat("a", 2000) + `/`, `/((a{100}){100}){100}/`,
	} {
		if re, err := compileLiteral(literal); err == nil {
			t.Errorf("%.40s compiles to %s", literal, re)
		}
	}
}

func TestString(t *testing.T) {
	for in, want := range map[string]string{
		"can getobject":                                              "CAN getobject",
		"Fred and  Bob can not all everything":                       "Fred AND Bob CAN NOT * *",
		"can a, b, and c d and e":                                    "CAN a, b, AND c d AND e",
		`can "a b", "and" and "x*" /x/i::regexp`:                     `CAN "a b", "and", AND "x*" /x/i::regex`,
		`can "plain" \*x`:                                            `CAN plain "*x"`,
		"can x if a::number>1 = 2":                                   "",
		"can x if a = 1 and (b = 2 or c = 3) and d = 4":              "CAN x WHEN a = 1 AND (b = 2 OR c = 3) AND d = 4",
		"can x if a = 1 or (b = 2 or c = 3)":                         "CAN x WHEN a = 1 OR (b = 2 OR c = 3)",
		"can x if (a = 1 or b = 2) or c = 3":                         "CAN x WHEN a = 1 OR b = 2 OR c = 3",
		"can x if not (a = 1 and not b = 2)":                         "CAN x WHEN NOT (a = 1 AND NOT b = 2)",
		`can x where a::ip in ("::1",10.0.0.1) and b Like "/a (b)/"`: `CAN x WHEN a::ip IN ("::1", 10.0.0.1) AND b like "/a (b)/"`,
		`can "q\"\\\u00e9\n"`:                                        `CAN "q\"\\é\u000a"`,
	} {
		rule, err := Parse(in, nil)
		if want == "" {
			if err == nil {
				t.Errorf("Parse(%q) = %v", in, rule)
			}
			continue
		}
		if err != nil || rule.String() != want {
			t.Errorf("Parse(%q) = %v, %v, want %s", in, rule, err, want)
		}
	}
}

func TestSyntaxErrorsSayWhere(t *testing.T) {
	deep := "CAN x WHEN " + strings.Repeat("(", 200) + "a = 1" + strings.Repeat(")", 200)
	for in, want := range map[string]string{
		"":                             `at offset 0: found the end where principals or CAN should be`,
		"CAN":                          `at offset 3: found the end where actions should be`,
		"CAN x y z":                    `at offset 8: found "z" where the end should be`,
		"Fred may read":                `at offset 5: found "may" where CAN should be`,
		"CAN x WHEN n = 1 AND":         `at offset 20: found the end where a condition should be`,
		"CAN x WHEN a in 1":            `at offset 16: found "1" where "(" should be`,
		"CAN x WHEN moon = 1":          `at offset 11: no type for "moon"`,
		"CAN x WHEN n = 1 OR n = many": `at offset 20: unable to validate value "many" as type "number": not a number`,
		"CAN x WHEN n like 1":          `at offset 11: unsupported operation "like" on type "number"`,
		"CAN x WHEN n::blob = 1":       `at offset 11: unknown type "blob"`,
		`CAN "x`:                       `at offset 4: quoted string does not end, or has an escape that means nothing`,
		`CAN "\q"`:                     `at offset 4: quoted string does not end, or has an escape that means nothing`,
		"CAN /(?=a)/::regex":           `at offset 4: regular expression uses look-around or a back reference, which are not supported`,
		"CAN x\x00":                    `at offset 0: rule is not text in UTF-8`,
		"CAN \xff":                     `at offset 0: rule is not text in UTF-8`,
		"CAN :x":                       `at offset 4: unexpected ':'`,
		deep:                           `at offset 111: conditions nest too deeply`,
		strings.Repeat("x", 10000):     `at offset 8192: rule is too long`,
	} {
		_, err := Parse(in, vectorTypes)
		if _, ok := errors.AsType[*SyntaxError](err); !ok || err.Error() != "aperture: "+want {
			t.Errorf("Parse(%.30q) = %v, want %s", in, err, want)
		}
	}
}

func TestEvaluateErrors(t *testing.T) {
	rule, err := Parse("CAN x WHEN NOT moon::string = full", nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, c := range map[error]Conditions{ErrMissing: nil, ErrType: Values{"moon": 5}} {
		if ok, err := rule.Evaluate(Request{Action: "x", Conditions: c}); ok || !errors.Is(err, want) {
			t.Errorf("Evaluate = %v, %v, want %v", ok, err, want)
		}
	}
	untyped, err := Parse("CAN x WHEN moon = full", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := untyped.Evaluate(Request{Action: "x", Conditions: Values{"moon": "full"}}); ok || !errors.Is(err, ErrType) {
		t.Errorf("Evaluate without a type = %v, %v", ok, err)
	}
}

func TestNamesResources(t *testing.T) {
	for in, want := range map[string]bool{"CAN a": false, "CAN a *": true, "CAN a b": true, "CAN a WHEN n = 1": false, "b CAN a": false} {
		if rule, err := Parse(in, vectorTypes); err != nil || rule.NamesResources() != want {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	v := readVectors(f)
	for _, r := range v.Rules {
		f.Add(r.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := Parse(text, vectorTypes)
		if err != nil {
			if _, ok := errors.AsType[*SyntaxError](err); !ok {
				t.Fatalf("Parse(%q) = %v", text, err)
			}
			return
		}
		normal := rule.String()
		if len(normal) > MaxRule {
			return // quoting made it longer than a rule may be
		}
		again, err := Parse(normal, vectorTypes)
		if err != nil || again.String() != normal {
			t.Fatalf("Parse(%q).String() = %q, which is read as %v, %v", text, normal, again, err)
		}
		for _, c := range v.Contexts {
			r := Request{Principal: c.Principal, Action: c.Action, Resource: c.Resource, Conditions: Values(c.Conditions)}
			ok1, err1 := rule.Evaluate(r)
			ok2, err2 := again.Evaluate(r)
			if ok1 != ok2 || (err1 == nil) != (err2 == nil) || ok1 && err1 != nil {
				t.Fatalf("%q = %v, %v, but %q = %v, %v", text, ok1, err1, normal, ok2, err2)
			}
		}
	})
}

func FuzzRegexp(f *testing.F) {
	for _, s := range []string{`/a.c/s`, `/[[]/`, `/[^]\-/i`, `/(?<n>x)\u0041/`, `/\cJ/m`, `/(?:a|b){2,3}?$/y`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, literal string) {
		if re, err := compileLiteral(literal); err == nil {
			re.MatchString("/demo/stor/a b")
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	rule, err := Parse("CAN getobject and getdirectory /demo/stor/* WHEN sourceip = 10.0.0.0/8 AND NOT day in (Saturday, Sunday)", vectorTypes)
	if err != nil {
		b.Fatal(err)
	}
	r := Request{Action: "getobject", Resource: "/demo/stor/a/b/c", Conditions: Values{"sourceip": "10.1.2.3", "day": time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := rule.Evaluate(r); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
