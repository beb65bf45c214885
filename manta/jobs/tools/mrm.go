package tools

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/mobulacloud/mobula/manta/client"
)

// mrm removes objects, and directories with what is in them.
func mrm(p *process) int {
	return p.remove([]option{flag("ask before removing", "interactive", "I"), value("NUM", "ignored", "parallel", "p"), flag("remove directories with what is in them", "recursive", "r")},
		func(c *client.Client, o *parsed, path string, info *client.Info) error {
			if !info.Directory {
				return c.DeleteObject(p.ctx, &client.DeleteObjectInput{Path: path})
			}
			if !o.has("recursive") {
				return fmt.Errorf("%s is not an object", path)
			}
			return c.RemoveAll(p.ctx, path)
		})
}

// mrmdir removes empty directories.
func mrmdir(p *process) int {
	return p.remove([]option{flag("ask before removing", "interactive", "I")},
		func(c *client.Client, _ *parsed, path string, info *client.Info) error {
			if !info.Directory {
				return fmt.Errorf("%s is not a directory", path)
			}
			return c.DeleteObject(p.ctx, &client.DeleteObjectInput{Path: path})
		})
}

func (p *process) remove(own []option, one func(*client.Client, *parsed, string, *client.Info) error) int {
	o, code, end := p.clientOptions("path...", own...)
	if end {
		return code
	}
	if len(o.args) == 0 {
		return p.fail(errors.New("path required"))
	}
	if o.has("interactive") && !isTerminal(p.stdin) {
		return p.fail(errors.New("stdin must be a tty when interactive specified"))
	}
	c, err := p.client(o)
	if err != nil {
		return p.fail(err)
	}
	for _, arg := range o.args {
		path := strings.TrimRight(p.path(c, arg), "/")
		info, err := p.head(c, path)
		if err == nil && (!o.has("interactive") || p.confirm(path)) {
			err = one(c, o, path, info)
		}
		if err != nil {
			return p.fail(err)
		}
	}
	return 0
}

func isTerminal(r any) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (p *process) confirm(path string) bool {
	fmt.Fprintf(p.stdout, "remove `%s` [y/N]?: ", path)
	answer, _ := bufio.NewReader(p.stdin).ReadString('\n') // no answer is no
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
