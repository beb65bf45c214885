package client

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// WaitOptions bound a wait. The zero value of a field means its documented default.
type WaitOptions struct {
	MinDelay time.Duration // between the first looks: 100 ms
	MaxDelay time.Duration // between later ones: 5 s
	MaxWait  time.Duration // in all: as long as the context allows
}

// WaitUntilExists returns the entry at a path as soon as there is one.
func (c *Client) WaitUntilExists(ctx context.Context, path string, o WaitOptions) (*Info, error) {
	var info *Info
	err := wait(ctx, o, func() (bool, error) {
		var err error
		info, err = c.HeadObject(ctx, &HeadObjectInput{Path: path})
		if isCode(err, ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for %s: %w", path, err)
	}
	return info, nil
}

// WaitUntilGone returns as soon as there is nothing at a path.
func (c *Client) WaitUntilGone(ctx context.Context, path string, o WaitOptions) error {
	err := wait(ctx, o, func() (bool, error) {
		_, err := c.HeadObject(ctx, &HeadObjectInput{Path: path})
		if isCode(err, ErrNotFound) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("wait for the end of %s: %w", path, err)
	}
	return nil
}

// WaitUntilCommitted returns as soon as a multipart upload is done, with its state then.
func (c *Client) WaitUntilCommitted(ctx context.Context, u *UploadRef, o WaitOptions) (*UploadState, error) {
	var state *UploadState
	err := wait(ctx, o, func() (bool, error) {
		var err error
		state, err = c.GetUpload(ctx, u)
		return err == nil && state.State == "done", err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for upload %s: %w", u.ID, err)
	}
	return state, nil
}

// errNotYet drives the backoff on; it never leaves this file, because a wait ends by the context or by MaxWait.
type errNotYet struct{}

func (errNotYet) Error() string { return "not yet" }

func wait(ctx context.Context, o WaitOptions, look func() (bool, error)) error {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(cmp.Or(o.MinDelay, 100*time.Millisecond)),
		backoff.WithMaxInterval(cmp.Or(o.MaxDelay, 5*time.Second)),
		backoff.WithMaxElapsedTime(0))
	if o.MaxWait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.MaxWait)
		defer cancel()
	}
	err := backoff.Retry(func() error {
		done, err := look()
		switch {
		case err != nil:
			return backoff.Permanent(err)
		case !done:
			return errNotYet{}
		}
		return nil
	}, backoff.WithContext(b, ctx))
	if _, ok := err.(errNotYet); ok || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
