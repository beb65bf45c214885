package tools

import (
	"errors"
	"io"

	"github.com/mobulacloud/mobula/manta/client"
)

const mteeUsage = `usage: mtee [-c copies] [-H header:value ...] path

Writes stdin to stdout and stores it as an object at path, which is no output of the task.`

// mtee copies its input to its output and to an object.
func mtee(p *process) int {
	o, ok := p.taskOptions("c:H:", mteeUsage)
	if !ok {
		return 2
	}
	copies, err := o.int("c", 2)
	if err != nil {
		return p.wrong(mteeUsage, errors.New("invalid durability (-c)"))
	}
	h, err := o.headers("H")
	if err != nil {
		return p.wrong(mteeUsage, err)
	}
	if len(o.args) == 0 {
		return p.wrong(mteeUsage, errors.New("a path must be given"))
	}
	c, err := p.taskClient()
	if err != nil {
		return p.wrong(mteeUsage, err)
	}
	// The object is sent when all of it is there: what reads stdout may take longer over it than the store waits.
	s := p.spool(inMemory)
	defer s.close()
	if err := s.fill(io.TeeReader(p.stdin, p.stdout)); err != nil {
		return p.fail(err)
	}
	body, err := s.reader()
	if err != nil {
		return p.fail(err)
	}
	contentType := h.Get("Content-Type")
	h.Del("Content-Type")
	_, err = c.PutObject(p.ctx, &client.PutObjectInput{Path: o.args[0], Body: body, Size: s.size, Copies: copies, Attributes: client.Attributes{ContentType: contentType, Header: h}})
	if err != nil {
		return p.fail(err)
	}
	return 0
}
