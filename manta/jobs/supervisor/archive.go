package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
)

// small is up to which size an archived object is sent with its length; beyond, it is streamed.
const small = 256 << 10

// errNoPlace says that the job's directory is gone, or may not be written to: the job goes without an archive.
var errNoPlace = errors.New("no place for an archive")

// archive stores what became of a job in its directory, and notes that. It is repeated until it succeeds: a reader of the archive must not have to guess.
func (j *job) archive(ctx context.Context) error {
	if !j.rec.TimeArchiveDone.IsZero() {
		return nil
	}
	began := time.Now()
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(time.Minute), backoff.WithMaxElapsedTime(0))
	err := backoff.RetryNotify(func() error {
		err := j.store(ctx)
		if err != nil && (ctx.Err() != nil || errors.Is(err, errNoPlace)) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(wait, ctx), func(err error, after time.Duration) {
		j.log.WarnContext(ctx, "archive will be tried again", "after", after, "err", err)
	})
	if err != nil && !errors.Is(err, errNoPlace) {
		return err
	}
	if err != nil {
		j.log.WarnContext(ctx, "job has no archive", "err", err)
	}
	live, err := parse(jobs.Dir(j.rec.Login, j.id) + "/live")
	if err != nil {
		return err
	}
	if _, err := j.s.cfg.Namespace.Delete(ctx, live.Key(j.rec.Owner), noOptions); err != nil && !permanent(err) {
		return fmt.Errorf("remove live: %w", err)
	}
	rec, err := j.claim.Update(ctx, func(rec *jobs.Job) error { rec.TimeArchiveDone = now(); return nil })
	if err != nil {
		return err
	}
	j.rec = rec
	j.s.met.archived.Add(1)
	j.s.met.archiveTime.add(time.Since(began))
	j.log.InfoContext(ctx, "job archived", "took", time.Since(began))
	return nil
}

// store puts the archive's objects.
func (j *job) store(ctx context.Context) error {
	select {
	case j.s.doors <- struct{}{}:
		defer func() { <-j.s.doors }()
	case <-ctx.Done():
		return ctx.Err()
	}
	group, ctx := errgroup.WithContext(ctx)
	put := func(name, contentType string, write func(w io.Writer) error) {
		group.Go(func() error {
			if err := j.put(ctx, name, contentType, write); err != nil {
				return fmt.Errorf("store %s: %w", name, err)
			}
			return nil
		})
	}
	records := j.s.cfg.Records
	put("job.json", "application/json", func(w io.Writer) error {
		rec := *j.rec
		rec.TimeArchiveDone = now()
		b, err := jobs.Encode(rec.Status())
		if err == nil {
			_, err = w.Write(append(b, '\n'))
		}
		return err
	})
	put("out.txt", "text/plain", func(w io.Writer) error {
		for list, err := range records.Outputs(ctx, j.id) {
			if err != nil {
				return err
			}
			if err := lines(w, list); err != nil {
				return err
			}
		}
		return nil
	})
	put("err.txt", "application/x-json-stream; type=job-error", func(w io.Writer) error {
		for list, err := range records.Errors(ctx, j.id) {
			if err != nil {
				return err
			}
			for i := range list {
				b, err := jobs.Encode(list[i].ArchiveLine())
				if err != nil {
					return err
				}
				if _, err := w.Write(append(b, '\n')); err != nil {
					return err
				}
			}
		}
		return nil
	})
	put("in.txt", "text/plain", func(w io.Writer) error {
		for in, err := range records.Inputs(ctx, j.id, 0) {
			if err != nil {
				return err
			}
			if err := lines(w, in.Paths); err != nil {
				return err
			}
		}
		return nil
	})
	put("fail.txt", "text/plain", func(w io.Writer) error {
		for list, err := range records.Errors(ctx, j.id) {
			if err != nil {
				return err
			}
			var failed []string
			for i := range list {
				if in := list[i].JobInput(); in != "" {
					failed = append(failed, in)
				}
			}
			if err := lines(w, failed); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

func lines(w io.Writer, list []string) error {
	if len(list) == 0 {
		return nil
	}
	_, err := io.WriteString(w, strings.Join(list, "\n")+"\n")
	return err
}

// put stores one object: in one piece if it is small, and otherwise as it is made.
func (j *job) put(ctx context.Context, name, contentType string, write func(io.Writer) error) error {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(write(pw)) }()
	defer pr.Close()
	var head bytes.Buffer
	_, err := io.CopyN(&head, pr, small)
	if err != nil && err != io.EOF {
		return err
	}
	size := int64(head.Len())
	var body io.Reader = &head
	if err == nil {
		size, body = -1, io.MultiReader(&head, pr)
	}
	u, err := url.Parse(j.s.cfg.FrontURL)
	if err != nil {
		return err
	}
	u = u.JoinPath(jobs.Dir(j.rec.Login, j.id), name)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), body)
	if err != nil {
		return err
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Authorization", "Token "+j.rec.Auth.Token)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	req.Header.Set("Access-Control-Allow-Origin", "*")
	resp, err := j.s.cfg.Front.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // an answer without a body is one all the same
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode >= 500,
		bytes.Contains(text, []byte(manta.CodeConcurrentRequest)):
		return fmt.Errorf("status %d: %.200s", resp.StatusCode, strconv.Quote(string(text)))
	}
	return fmt.Errorf("%w: status %d: %.200s", errNoPlace, resp.StatusCode, strconv.Quote(string(text)))
}
