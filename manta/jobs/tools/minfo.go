package tools

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/sdc"
)

// minfo shows the headers of entries.
func minfo(p *process) int {
	o, code, end := p.clientOptions("path...", flag("output in JSON", "json", "j"))
	if end {
		return code
	}
	if len(o.args) == 0 {
		return p.fail(errors.New("path required"))
	}
	c, err := p.client(o)
	if err != nil {
		return p.fail(err)
	}
	for _, arg := range o.args {
		status, header := http.StatusOK, http.Header{}
		info, err := c.HeadObject(p.ctx, &client.HeadObjectInput{Path: p.path(c, arg)})
		if refused, ok := errors.AsType[*sdc.Error](err); ok {
			status = refused.Status
			header.Set("x-request-id", refused.RequestID)
		} else if err != nil {
			return p.fail(err)
		} else {
			header = info.Header
		}
		line := fmt.Sprintf("HTTP/1.1 %d %s", status, http.StatusText(status))
		if o.has("json") {
			all := map[string]any{"status": line, "statusCode": status}
			for name, v := range header {
				all[strings.ToLower(name)] = strings.Join(v, ", ")
			}
			if err := printJSON(p.stdout, all); err != nil {
				return p.fail(err)
			}
			continue
		}
		fmt.Fprintln(p.stdout, line)
		var names []string
		for name := range header {
			names = append(names, name)
		}
		slices.SortFunc(names, cmp.Compare[string])
		for _, name := range names {
			fmt.Fprintf(p.stdout, "%s: %s\n", strings.ToLower(name), strings.Join(header[name], ", "))
		}
		fmt.Fprintln(p.stdout)
	}
	return 0
}

var relative = regexp.MustCompile(`^([1-9][0-9]{0,8})([smhdwy])$`)

var units = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour}

// msign makes URLs that anybody may use. It needs a key, which tasks do not have.
func msign(p *process) int {
	o, code, end := p.clientOptions("path...", value("EPOCH", "when it expires (default: in an hour)", "expires", "e"), value("TIME", "when it expires from now on: 30s, 5m, 2h, 1d, 1w, 1y", "expires-relative", "E"),
		value("METHOD", "HTTP method to allow (default: GET)", "method", "m"), value("TAG,TAG...", "role tags", "role-tag"))
	if end {
		return code
	}
	if len(o.args) == 0 {
		return p.fail(errors.New("path required"))
	}
	in := client.SignURLInput{Methods: []string{http.MethodGet}, Expires: time.Now().Add(time.Hour)}
	switch {
	case o.has("expires") && o.has("expires-relative"):
		return p.fail(errors.New("-e and -E cannot be specified together"))
	case o.has("expires"):
		n, err := strconv.ParseInt(o.get("expires"), 10, 64)
		if err != nil || n < 1 {
			return p.fail(fmt.Errorf("invalid expires: %s", o.get("expires")))
		}
		in.Expires = time.Unix(n, 0)
	case o.has("expires-relative"):
		m := relative.FindStringSubmatch(o.get("expires-relative"))
		if m == nil {
			return p.fail(fmt.Errorf("invalid expires: %s", o.get("expires-relative")))
		}
		n, _ := strconv.Atoi(m[1]) // as the expression has it
		in.Expires = time.Now().Add(time.Duration(n) * min(units[m[2]], time.Duration(1<<62)/time.Duration(n)))
	}
	if o.has("method") {
		in.Methods = nil
		for _, m := range o.all("method") {
			if m = strings.ToUpper(m); !slices.Contains([]string{"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"}, m) {
				return p.fail(fmt.Errorf("method invalid: %s", m))
			}
			in.Methods = append(in.Methods, m)
		}
	}
	a, err := attributes(o)
	if err != nil {
		return p.fail(err)
	}
	in.RoleTags = a.RoleTags
	c, err := p.client(o)
	if err != nil {
		return p.fail(err)
	}
	for _, arg := range o.args {
		in.Path = p.path(c, arg)
		u, err := c.SignURL(p.ctx, &in)
		if err != nil {
			return p.fail(err)
		}
		fmt.Fprintln(p.stdout, u)
	}
	return 0
}
