package tools

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta/client"
)

const mpipeUsage = `usage: mpipe [-f file] [-p] [-r reducer] [-H header:value ...] [path]

Stores stdin as an object that is an output of the task, at path or under a name of its own. -r sends it
to one reducer of the next phase. -p makes the directories above path. -f stores a file instead of stdin.`

// mpipe stores its input as an output of the task.
func mpipe(p *process) int {
	o, ok := p.taskOptions("f:H:pr:", mpipeUsage)
	if !ok {
		return 2
	}
	h, err := o.headers("H")
	if err != nil {
		return p.wrong(mpipeUsage, err)
	}
	reducer, err := reducerOption(o)
	if err != nil {
		return p.wrong(mpipeUsage, err)
	}
	var body io.ReadSeeker
	var size int64
	if name := o.get("f"); o.has("f") {
		f, err := os.Open(name)
		if err != nil {
			return p.wrong(mpipeUsage, err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err == nil && !st.Mode().IsRegular() {
			err = fmt.Errorf("%s is not a file", name)
		}
		if err != nil {
			return p.wrong(mpipeUsage, err)
		}
		body, size = f, st.Size()
	}
	path := ""
	if len(o.args) > 0 {
		path = o.args[0]
	} else if base := p.getenv("MANTA_OUTPUT_BASE"); base != "" {
		path = base + uuid.NewString()
	} else {
		p.say("manta configuration not found in environment")
		return 2
	}
	c, err := p.taskClient()
	if err != nil {
		return p.fail(err)
	}
	if body == nil {
		s := p.spool(inMemory)
		defer s.close()
		if err := s.fill(p.stdin); err != nil {
			return p.fail(err)
		}
		if body, err = s.reader(); err != nil {
			return p.fail(err)
		}
		size = s.size
	}
	if err := p.emit(c, path, body, size, reducer, o.has("p") || len(o.args) == 0, h); err != nil {
		return p.fail(err)
	}
	fmt.Fprintln(p.stdout, path)
	return 0
}

// taskClient makes a client for programs that have to do with tasks. It tries three times, after a second and after two.
func (p *process) taskClient() (*client.Client, error) {
	return p.client(nil, func(o *client.Options) {
		o.MaxRetries, o.RetryWaitMin, o.RetryWaitMax = attempts-1, retryWait, 3*retryWait
	})
}

const attempts = 3

var retryWait = time.Second // less in tests

// emit stores an object as an output of the task.
func (p *process) emit(c *client.Client, path string, body io.Reader, size int64, reducer int, parents bool, h http.Header) error {
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	contentType := h.Get("Content-Type")
	h.Del("Content-Type")
	h.Set("x-manta-stream", "stdout")
	if reducer >= 0 {
		h.Set("x-manta-reducer", strconv.Itoa(reducer))
	}
	_, err := c.PutObject(p.ctx, &client.PutObjectInput{Path: path, Body: body, Size: size, MakeParents: parents, Attributes: client.Attributes{ContentType: contentType, Header: h}})
	return err
}

// reducerOption reads -r; -1 says that it was not given.
func reducerOption(o *parsed) (int, error) {
	if !o.has("r") {
		return -1, nil
	}
	n, err := strconv.ParseUint(o.get("r"), 10, 31)
	if err != nil {
		return 0, errors.New("invalid reducer")
	}
	return int(n), nil
}
