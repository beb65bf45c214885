package metastore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/storage/metastore"
)

func TestParseFilter(t *testing.T) {
	for _, c := range []struct {
		text string
		want metastore.Filter
		out  string // "" if it is the text itself
	}{
		{"(a=b)", metastore.Eq{Field: "a", Value: "b"}, ""},
		{"a=b", metastore.Eq{Field: "a", Value: "b"}, "(a=b)"},
		{"(a=)", metastore.Eq{Field: "a", Value: ""}, ""},
		{"(a>=5)", metastore.Ge{Field: "a", Value: "5"}, ""},
		{"(a<=5)", metastore.Le{Field: "a", Value: "5"}, ""},
		{"(a=<=5)", metastore.Eq{Field: "a", Value: "<=5"}, `(a=<\=5)`},
		{"(a=*)", metastore.Has{Field: "a"}, ""},
		{"(a=**)", metastore.Substr{Field: "a"}, ""},
		{"(a=x*)", metastore.Substr{Field: "a", Initial: "x"}, ""},
		{"(a=*x)", metastore.Substr{Field: "a", Final: "x"}, ""},
		{"(a=*x*)", metastore.Substr{Field: "a", Any: []string{"x"}}, ""},
		{"(a=p*x**y*s)", metastore.Substr{Field: "a", Initial: "p", Any: []string{"x", "y"}, Final: "s"}, "(a=p*x*y*s)"},
		{`(a=\2a*\*)`, metastore.Substr{Field: "a", Initial: "*", Final: "*"}, `(a=\**\*)`},
		{`(a=b\28\29\5c\2A)`, metastore.Eq{Field: "a", Value: `b()\*`}, `(a=b\(\)\\\*)`},
		{`(a=b\(\)\\\*\=)`, metastore.Eq{Field: "a", Value: `b()\*=`}, ""},
		{`(a=\0a\e9)`, metastore.Eq{Field: "a", Value: "\né"}, "(a=\né)"},
		{"(a= b )", metastore.Eq{Field: "a", Value: " b "}, ""},
		{"(a=日本)", metastore.Eq{Field: "a", Value: "日本"}, ""},
		{"(member=uuid=1, ou=users)", metastore.Eq{Field: "member", Value: "uuid=1, ou=users"}, `(member=uuid\=1, ou\=users)`},
		{"(&(a=<doc>*)(b=c))", metastore.And{metastore.Substr{Field: "a", Initial: "<doc>"}, metastore.Eq{Field: "b", Value: "c"}}, ""},
		{"(&)", metastore.And{}, ""},
		{"(|)", metastore.Or{}, ""},
		{"(|(&(a=1)(b=2))(!(c=3)))", metastore.Or{
			metastore.And{metastore.Eq{Field: "a", Value: "1"}, metastore.Eq{Field: "b", Value: "2"}},
			metastore.Not{Filter: metastore.Eq{Field: "c", Value: "3"}}}, ""},
		{"(&(a=b)!(c=d)(e=f))", metastore.And{metastore.Eq{Field: "a", Value: "b"}, metastore.Not{Filter: metastore.Eq{Field: "c", Value: "d"}}, metastore.Eq{Field: "e", Value: "f"}},
			"(&(a=b)(!(c=d))(e=f))"},
		{"(a:caseIgnoreMatch:=B:c)", metastore.Ext{Field: "a", Rule: metastore.CaseIgnoreMatch, Value: "B:c"}, ""},
		{"(a:caseIgnoreSubstringsMatch:=*b*)", metastore.Ext{Field: "a", Rule: metastore.CaseIgnoreSubstringsMatch, Value: "*b*"}, ""},
		{`(a:caseIgnoreSubstringsMatch:=x\*\5c*)`, metastore.Ext{Field: "a", Rule: metastore.CaseIgnoreSubstringsMatch, Value: `x\*\\*`}, `(a:caseIgnoreSubstringsMatch:=x\*\\*)`},
		{`(a:caseIgnoreSubstringsMatch:=x\*)`, metastore.Ext{Field: "a", Rule: metastore.CaseIgnoreSubstringsMatch, Value: `x\*`}, ""},
		{"(a:overlaps:={1,2})", metastore.Ext{Field: "a", Rule: metastore.Overlaps, Value: "{1,2}"}, ""},
		{"(a:within:=10.0.0.0/8)", metastore.Ext{Field: "a", Rule: metastore.Within, Value: "10.0.0.0/8"}, ""},
	} {
		got, err := metastore.ParseFilter(c.text)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("ParseFilter(%s): %v (-want +got)\n%s", c.text, err, diff)
			continue
		}
		if c.out == "" {
			c.out = c.text
		}
		if got.String() != c.out {
			t.Errorf("ParseFilter(%s).String() = %s, want %s", c.text, got, c.out)
		}
	}
}

func TestParseFilterRefuses(t *testing.T) {
	for _, text := range []string{
		"", "(", ")", "()", "(a)", "(a=b", "a=b)", "(a=b))", "(a=b)(c=d)", "(=b)", "(a b=c)", "(a.b=c)", "(a>b)", "(a~=b)", "(a!=b)",
		"(a=b(c)", "(a=\\x)", "(a=\\)", "(a=\\2)", "(&(a=b)", "(!)", "(!(a=b)(c=d))", "(&a=b)", "(a:=b)", "(a:nope:=b)", "(a:dn:caseIgnoreMatch:=b)", "(:caseIgnoreMatch:=b)",
		"(a=\xff)", strings.Repeat("(!", 200) + "(a=b)" + strings.Repeat(")", 200), "(a=" + strings.Repeat("x", metastore.MaxFilter) + ")",
		strings.Repeat("!", 1000),
	} {
		if f, err := metastore.ParseFilter(text); !errors.Is(err, metastore.ErrInvalid) {
			t.Errorf("ParseFilter(%.60q) = %v, %v, want ErrInvalid", text, f, err)
		}
	}
}

func TestFilterString(t *testing.T) {
	for want, f := range map[string]metastore.Filter{
		"(a=5)":                               metastore.Eq{Field: "a", Value: 5},
		"(a>=1.5)":                            metastore.Ge{Field: "a", Value: 1.5},
		"(a=true)":                            metastore.Eq{Field: "a", Value: true},
		"(a<=2026-01-02T03:04:05.000000006Z)": metastore.Le{Field: "a", Value: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)},
		"(&(&)(!(&)))":                        metastore.And{nil, metastore.Not{}},
	} {
		if got := f.String(); got != want {
			t.Errorf("%#v.String() = %s, want %s", f, got, want)
		}
	}
}

// FuzzParseFilter holds that whatever is read can be written and read again as the same.
func FuzzParseFilter(f *testing.F) {
	for _, seed := range []string{
		"(a=b)", "a=b", "(&(objectclass=sdcPerson)(|(login=admin)(!(email=*@x.com))))", `(a=\2a\(*x\\y*)`, "(a:caseIgnoreSubstringsMatch:=*b\\**)",
		"(owner_uuid=930896af-bf8c-48d4-885c-6573a94b1853)", "(a>=1)", "(a<=1)", "(&)", "(|(a=**))", "(a=\\00)", "(x:contains:={1,2})", "(&(a=b)!(c=d))",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		one, err := metastore.ParseFilter(text)
		if err != nil {
			if !errors.Is(err, metastore.ErrInvalid) {
				t.Fatalf("ParseFilter(%q) = %v", text, err)
			}
			return
		}
		out := one.String()
		if len(out) > metastore.MaxFilter {
			return
		}
		two, err := metastore.ParseFilter(out)
		if diff := cmp.Diff(one, two); diff != "" || err != nil {
			t.Fatalf("%q is written as %q: %v\n%s", text, out, err, diff)
		}
	})
}
