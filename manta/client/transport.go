package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/hashicorp/go-retryablehttp"
)

// A doer carries out requests: once, or with retries where a repetition is safe. It is the only layer that retries.
type doer struct {
	once    *http.Client
	retried *retryablehttp.Client
}

func newDoer(o Options) *doer {
	r := &retryablehttp.Client{
		HTTPClient:   o.HTTPClient,
		Logger:       o.Logger,
		RetryMax:     max(o.MaxRetries, 0),
		RetryWaitMin: o.RetryWaitMin,
		RetryWaitMax: o.RetryWaitMax,
		Backoff:      retryablehttp.DefaultBackoff, // exponential, or as Retry-After says
		CheckRetry:   worthRetrying,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	return &doer{once: o.HTTPClient, retried: r}
}

// worthRetrying is the library's policy, except that a full store stays full.
func worthRetrying(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if resp != nil && resp.StatusCode == http.StatusInsufficientStorage {
		return false, nil
	}
	again, policyErr := retryablehttp.DefaultRetryPolicy(ctx, resp, err)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	_ = policyErr // says again what err or the status say
	return again, nil
}

// do sends a built request. repeatable says that doing it twice has the effect of once.
func (d *doer) do(ctx context.Context, req *smithyhttp.Request, repeatable bool) (*http.Response, error) {
	stream := req.GetStream()
	if !repeatable || stream != nil && !req.IsStreamSeekable() {
		return d.once.Do(req.Build(ctx))
	}
	built := req.Build(ctx)
	size := built.ContentLength
	rr := &retryablehttp.Request{Request: built}
	if stream != nil && size != 0 {
		var last *attempt
		err := rr.SetBody(retryablehttp.ReaderFunc(func() (io.Reader, error) {
			// The transport may still be reading for an attempt that was answered early.
			last.end()
			if err := req.RewindStream(); err != nil {
				return nil, err
			}
			last = &attempt{r: stream}
			return last, nil
		}))
		if err != nil {
			return nil, err
		}
		rr.ContentLength = size
		defer func() { last.end() }()
	}
	return d.retried.Do(rr)
}

// An attempt is one try's view of a body that a later try will rewind.
type attempt struct {
	mu sync.Mutex
	r  io.Reader
}

var errAttemptOver = errors.New("client: attempt is over")

func (a *attempt) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.r == nil {
		return 0, errAttemptOver
	}
	return a.r.Read(p)
}

func (a *attempt) end() {
	if a != nil {
		a.mu.Lock()
		a.r = nil
		a.mu.Unlock()
	}
}
