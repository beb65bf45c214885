package client

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go/middleware"
)

// Options configure a [Client]. The zero value of a field means its documented default.
type Options struct {
	// Endpoint is the store's address, as "https://us-east.manta.example". Required.
	Endpoint string

	// Account is the login whose tree "~~" is. Required unless all paths are absolute and requests anonymous.
	Account string

	// User is the login of a subuser of Account who makes the requests; "" means the account itself.
	User string

	// Roles are activated for every request, in place of the caller's default roles. "*" activates all of them.
	Roles []string

	// Signer signs requests. Without Signer and Token requests are anonymous, which is enough to read /:login/public.
	Signer *Signer

	// Token authenticates requests in place of a signature: see [Client.CreateToken].
	Token string

	// HTTPClient carries requests out. By default it is one of the client's own, with connection reuse and time limits that suit streams of any length.
	HTTPClient *http.Client

	// TLSConfig is for the default HTTPClient.
	TLSConfig *tls.Config

	// MaxRetries is how often a request that failed in a way that may pass is repeated: 4 by default, negative for never.
	MaxRetries int

	// RetryWaitMin and RetryWaitMax bound the exponential waits between tries: 100 ms and 5 s by default. A Retry-After header goes before them.
	RetryWaitMin, RetryWaitMax time.Duration

	// UserAgent goes before the SDK's own.
	UserAgent string

	// APIOptions change the middleware stack of every operation.
	APIOptions []func(*middleware.Stack) error

	// Logger gets a line for each retry. nil discards.
	Logger *slog.Logger
}

// A Client makes requests to one store as one caller. It is safe for concurrent use.
type Client struct {
	o        Options
	endpoint *url.URL
	http     *doer
	stamp    stamp
}

// New checks the options and returns a client. It makes no request.
func New(o Options, fns ...func(*Options)) (*Client, error) {
	for _, fn := range fns {
		fn(&o)
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("client: endpoint %q is not an http or https address", o.Endpoint)
	}
	if u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("client: endpoint %q has more than scheme and host", u.Redacted())
	}
	if o.User != "" && o.Account == "" {
		return nil, errors.New("client: user without account")
	}
	if o.Signer != nil && o.Account == "" {
		return nil, errors.New("client: signer without account")
	}
	if o.MaxRetries == 0 {
		o.MaxRetries = 4
	}
	o.RetryWaitMin = cmp.Or(o.RetryWaitMin, 100*time.Millisecond)
	o.RetryWaitMax = max(cmp.Or(o.RetryWaitMax, 5*time.Second), o.RetryWaitMin)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HTTPClient == nil {
		o.HTTPClient = defaultHTTPClient(o.TLSConfig)
	}
	o.Roles = slices.Clone(o.Roles)
	o.APIOptions = slices.Clone(o.APIOptions)
	u.Path = ""
	return &Client{o: o, endpoint: u, http: newDoer(o)}, nil
}

// Account returns the login that "~~" stands for.
func (c *Client) Account() string { return c.o.Account }

// CloseIdleConnections closes connections that are kept for reuse.
func (c *Client) CloseIdleConnections() { c.o.HTTPClient.CloseIdleConnections() }

// defaultHTTPClient bounds every wait in which nothing moves, and never the length of a transfer.
func defaultHTTPClient(t *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       t,
			TLSHandshakeTimeout:   10 * time.Second,
			ForceAttemptHTTP2:     false, // a stream a connection: parallel transfers do not share one window
			MaxIdleConnsPerHost:   64,
			IdleConnTimeout:       60 * time.Second,
			ResponseHeaderTimeout: 120 * time.Second,
			// Bodies that cannot be rewound wait for 100-continue, so that a refusal leaves them unread.
			ExpectContinueTimeout: 60 * time.Second,
			DisableCompression:    true, // stored bytes are what they are
			WriteBufferSize:       64 << 10,
			ReadBufferSize:        64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
