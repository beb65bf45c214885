package tools

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const mcatUsage = `usage: mcat [-r reducer] path...

Makes objects outputs of the task as they are, without reading them, and without looking whether they exist.`

// mcat emits objects by reference.
func mcat(p *process) int {
	o, ok := p.taskOptions("p:r:", mcatUsage)
	if !ok {
		return 2
	}
	reducer, err := reducerOption(o)
	if err != nil {
		return p.wrong(mcatUsage, err)
	}
	if len(o.args) == 0 {
		return p.wrong(mcatUsage, nil)
	}
	base := p.getenv("MANTA_URL")
	if base == "" {
		base = "http://localhost:80"
	}
	if o.has("p") {
		base = "http://localhost:" + o.get("p")
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return p.fail(fmt.Errorf("MANTA_URL %q is no address", base))
	}
	tr := &http.Transport{ResponseHeaderTimeout: 2 * time.Minute}
	defer tr.CloseIdleConnections()
	// One after another: outputs have an order.
	for _, path := range o.args {
		if path == "~~" || strings.HasPrefix(path, "~~/") {
			path = "/" + p.getenv("MANTA_USER") + path[2:]
		}
		if !strings.HasPrefix(path, "/") {
			return p.fail(fmt.Errorf("%q is not an absolute path", path))
		}
		target := *u
		target.Path, target.RawPath = path, escape(path)
		req, err := http.NewRequestWithContext(p.ctx, http.MethodPut, target.String(), http.NoBody)
		if err != nil {
			return p.fail(err)
		}
		req.Header.Set("x-manta-reference", "true")
		req.Header.Set("x-manta-stream", "stdout")
		if reducer >= 0 {
			req.Header.Set("x-manta-reducer", strconv.Itoa(reducer))
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return p.fail(err)
		}
		io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			p.say("%s: server returned %d", path, resp.StatusCode)
			return 1
		}
	}
	return 0
}

// escape percent-encodes each component of a path.
func escape(path string) string {
	parts := strings.Split(path, "/")
	for i, s := range parts {
		parts[i] = url.PathEscape(s)
	}
	return strings.Join(parts, "/")
}
