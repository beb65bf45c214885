package jobstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/agent/door"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
)

// A run is one task.
type run struct {
	*tasktest.Task
	c     *Cloud
	dir   string
	door  *door.Door
	store *client.Client // through the door
	url   string         // of the door, for programs
	env   []string
}

func (c *Cloud) run(ctx context.Context, t *tasktest.Task) (err error) {
	r := &run{Task: t, c: c}
	if r.dir, err = os.MkdirTemp("", "jobstest."); err != nil {
		return internal(err)
	}
	defer os.RemoveAll(r.dir)
	r.door, err = door.New(door.Config{Front: c.store.Transport(), FrontURL: c.URL, Login: t.Job.Login, Token: t.Job.Token})
	if err != nil {
		return internal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return internal(err)
	}
	r.url = "http://" + l.Addr().String() + "/"
	go r.door.Serve(l) // until Close
	defer r.door.Close()
	r.store, err = client.New(client.Options{Endpoint: c.URL, Account: t.Job.Login, HTTPClient: &http.Client{Transport: r.door}})
	if err != nil {
		return internal(err)
	}
	ended, end := context.WithCancel(ctx)
	defer end()
	r.door.Begin(door.Task{ID: t.Start.Task, Emit: func(e door.Emitted) { t.Emit(e.Path, e.Reducer) }, Ended: end})
	return r.do(ctx, ended)
}

// do runs the task's programs and gives out what they wrote.
func (r *run) do(ctx, ended context.Context) error {
	phase := r.Job.Phases[r.Start.Phase]
	r.env = []string{
		"HOME=/root", "PATH=" + r.c.bin + ":" + os.Getenv("PATH"), "MANTA_URL=" + r.url, "MANTA_NO_AUTH=true", "MANTA_USER=" + r.Job.Login, "MANTA_JOB_ID=" + r.Job.Job,
		"MANTA_OUTPUT_BASE=" + r.OutputBase(),
	}
	for _, asset := range phase.Assets {
		if err := r.fetch(ctx, asset, filepath.Join(r.dir, "assets", asset), 0o700); err != nil {
			return failed(jobs.CodeTaskInit, fmt.Sprintf("failed to dispatch task: first of 1 error: error retrieving asset %q: %v", asset, err))
		}
	}
	if phase.Init != "" {
		if err := r.command(ended, phase.Init, nil, io.Discard, io.Discard); err != nil {
			return failed(jobs.CodeTaskInit, err.Error())
		}
	}
	stdin, err := r.input(ctx)
	if err != nil {
		return internal(err)
	}
	defer stdin.Close()
	stdout, err := os.Create(filepath.Join(r.dir, "stdout"))
	if err != nil {
		return internal(err)
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(r.dir, "stderr"))
	if err != nil {
		return internal(err)
	}
	defer stderr.Close()
	cmdErr := r.command(ended, phase.Exec, stdin, stdout, stderr)
	res := r.door.End()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case res.Committed:
		return nil
	case res.Failed != nil:
		return failed(res.Failed.Code, res.Failed.Message)
	}
	if !res.ExplicitStdout {
		path := r.OutputBase() + r.Start.Task
		if err := r.save(ctx, path, stdout); err != nil {
			return internal(err)
		}
		if cmdErr == nil {
			r.Emit(path, -1)
		}
	}
	if cmdErr == nil {
		return nil
	}
	path := r.OutputBase() + "err." + r.Start.Task
	if err := r.save(ctx, path, stderr); err != nil {
		return internal(err)
	}
	f := failed(jobs.CodeUserTask, cmdErr.Error())
	f.Failure.Stderr = path
	return f
}

// command runs a program and what it starts.
func (r *run) command(ctx context.Context, text string, stdin io.Reader, stdout, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, "bash", "-c", strings.ReplaceAll(text, "/assets/", filepath.Join(r.dir, "assets")+"/"))
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = r.dir, r.env, stdin, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // children end with the main process; mostly there are none
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Errorf("user command terminated by %s", signalName(status.Signal()))
	}
	return fmt.Errorf("user command exited with code %d", exit.ExitCode())
}

func signalName(s syscall.Signal) string {
	names := map[syscall.Signal]string{syscall.SIGKILL: "SIGKILL", syscall.SIGTERM: "SIGTERM", syscall.SIGSEGV: "SIGSEGV", syscall.SIGABRT: "SIGABRT", syscall.SIGPIPE: "SIGPIPE"}
	if n, ok := names[s]; ok {
		return n
	}
	return "signal " + strconv.Itoa(int(s))
}

// input opens the task's stdin: a map task's object as a file, all of a reducer's as a pipe.
func (r *run) input(ctx context.Context) (io.ReadCloser, error) {
	if in := r.Start.Input; in != nil {
		file := filepath.Join(r.dir, "manta", in.Path)
		if err := r.fetch(ctx, in.Path, file, 0o400); err != nil {
			return nil, err
		}
		r.env = append(r.env, "MANTA_INPUT_FILE="+file, "MANTA_INPUT_OBJECT="+in.Path)
		return os.Open(file)
	}
	r.env = append(r.env, "MANTA_REDUCER="+strconv.Itoa(r.Start.Reducer))
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer pw.Close()
		for {
			list, err := r.Inputs()
			if err != nil || len(list) == 0 {
				return
			}
			for _, in := range list {
				if err := r.copy(ctx, in.Path, pw); err != nil {
					return // the program has gone, or the test's store
				}
			}
		}
	}()
	return pr, nil
}

func (r *run) copy(ctx context.Context, path string, w io.Writer) error {
	obj, err := r.store.GetObject(ctx, &client.GetObjectInput{Path: path})
	if err != nil {
		return err
	}
	defer obj.Body.Close()
	_, err = io.Copy(w, obj.Body)
	return err
}

// fetch makes a file of an object, which may be a program.
func (r *run) fetch(ctx context.Context, path, file string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := r.copy(ctx, path, &b); err != nil {
		return err
	}
	// A child that another goroutine starts meanwhile would have the file open for writing until it has become its program, and a file that is open for
	// writing cannot be run.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(file, b.Bytes(), mode)
}

func (r *run) save(ctx context.Context, path string, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = r.store.PutObject(ctx, &client.PutObjectInput{Path: path, Body: io.NewSectionReader(f, 0, st.Size()), Size: st.Size(), MakeParents: true})
	return err
}

func failed(code, message string) *tasktest.Failed {
	return &tasktest.Failed{Failure: jobs.Failure{Code: code, Message: message}}
}

func internal(err error) error {
	return &tasktest.Failed{Failure: jobs.Failure{Code: jobs.CodeInternal, Message: "internal error", Internal: err.Error()}}
}
