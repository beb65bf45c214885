package tasktest

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/storage"
)

// Objects are those that tasks read and write, in memory. The zero value has none.
type Objects struct {
	mu   sync.Mutex
	data map[string]string
}

// Put stores an object and returns it as a task's input, at hand for those who serve the storage id.
func (o *Objects) Put(path, content, storageID string) task.Input {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.data == nil {
		o.data = map[string]string{}
	}
	o.data[path] = content
	in := task.Input{Path: path, Origin: path, Size: int64(len(content))}
	if content != "" {
		in.Object, in.Copies = storage.ObjectID{Owner: uuid.New(), Object: uuid.New()}, []string{storageID}
	}
	return in
}

// Get returns an object.
func (o *Objects) Get(path string) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	content, ok := o.data[path]
	return content, ok
}

// Shell returns a Run function for programs that are one command: cat, echo, sleep or exit, each with plain words behind it. What they print is stored as an
// object, and emitted if they end well.
func Shell(objects *Objects) func(context.Context, *Task) error {
	return func(ctx context.Context, t *Task) error {
		name, rest, _ := strings.Cut(t.Job.Phases[t.Start.Phase].Exec, " ")
		var out bytes.Buffer
		code := 0
		switch name {
		case "cat":
			if err := input(t, objects, &out); err != nil {
				return err
			}
		case "echo":
			fmt.Fprintln(&out, rest)
		case "exit":
			code, _ = strconv.Atoi(rest)
		case "sleep":
			seconds, _ := strconv.Atoi(rest)
			select {
			case <-time.After(time.Duration(seconds) * time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		default:
			code = 127
		}
		path := t.OutputBase() + t.Start.Task
		objects.Put(path, out.String(), "")
		if code != 0 {
			return fmt.Errorf("user command exited with code %d", code)
		}
		t.Emit(path, -1)
		return nil
	}
}

func input(t *Task, objects *Objects, out *bytes.Buffer) error {
	read := func(in *task.Input) error {
		content, ok := objects.Get(in.Path)
		if !ok {
			return fmt.Errorf("no object %s", in.Path)
		}
		out.WriteString(content)
		return nil
	}
	if t.Start.Input != nil {
		return read(t.Start.Input)
	}
	for {
		list, err := t.Inputs()
		if err != nil || len(list) == 0 {
			return err
		}
		for i := range list {
			if err := read(&list[i]); err != nil {
				return err
			}
		}
	}
}
