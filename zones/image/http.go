package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// HTTPConfig describes an image API.
type HTTPConfig struct {
	// URL is the API's base, such as "https://images.example.com"; a query "?channel=NAME" picks a channel. Required.
	URL string
	// Client carries requests; nil is one with a limit of 30 seconds to the first byte of an answer.
	Client *http.Client
	// Log hears of retries; nil discards.
	Log *slog.Logger
}

// HTTP is a source that speaks the image API (IMGAPI): GET /images, /images/UUID, /images/UUID/file. Requests that find the server away or
// overloaded are tried again, four times at most.
type HTTP struct {
	base    *url.URL
	channel string
	client  *retryablehttp.Client
}

// NewHTTP makes a source of an image API. Nothing is requested yet.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("image source %q: not an http URL", cfg.URL)
	}
	h := &HTTP{base: u, channel: u.Query().Get("channel"), client: retryablehttp.NewClient()}
	u.RawQuery = ""
	h.client.RetryMax, h.client.Logger = 4, nil
	if cfg.Log != nil {
		h.client.Logger = cfg.Log
	}
	if cfg.Client != nil {
		h.client.HTTPClient = cfg.Client
	} else if t, ok := h.client.HTTPClient.Transport.(*http.Transport); ok {
		t.ResponseHeaderTimeout = 30 * time.Second
	}
	return h, nil
}

// String gives the URL without user and password.
func (h *HTTP) String() string { return h.base.Redacted() }

func (h *HTTP) get(ctx context.Context, what string, elem ...string) (*http.Response, error) {
	u := h.base.JoinPath(elem...)
	if h.channel != "" {
		u.RawQuery = url.Values{"channel": {h.channel}}.Encode()
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Version", "~2")
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s from %s: %w", what, h, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s in %s: %w", what, h, ErrNotExist)
	}
	var e struct{ Code, Message string }
	_ = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&e)
	return nil, fmt.Errorf("%s from %s: %s", what, h, strings.TrimSpace(resp.Status+" "+e.Code+" "+e.Message))
}

// List gives all manifests.
func (h *HTTP) List(ctx context.Context) ([]Manifest, error) {
	resp, err := h.get(ctx, "list of images", "images")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	const limit = 256 << 20
	d := json.NewDecoder(io.LimitReader(resp.Body, limit))
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("list of images from %s: %w", h, err)
	}
	var out []Manifest
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, fmt.Errorf("list of images from %s: %w", h, err)
		}
		if m, err := ParseManifest(raw); err == nil {
			out = append(out, m)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("list of images from %s: %w", h, err)
	}
	return out, nil
}

// Get gives one manifest.
func (h *HTTP) Get(ctx context.Context, uuid string) (Manifest, error) {
	if !validUUID(uuid) {
		return Manifest{}, fmt.Errorf("image %.40q: %w", uuid, ErrNotExist)
	}
	resp, err := h.get(ctx, "manifest of image "+uuid, "images", uuid)
	if err != nil {
		return Manifest{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest of image %s from %s: %w", uuid, h, err)
	}
	m, err := ParseManifest(b)
	if err == nil && m.UUID != uuid {
		err = fmt.Errorf("%w: %s answers with image %s for %s", ErrManifest, h, m.UUID, uuid)
	}
	return m, err
}

// Open starts the download of an image's file.
func (h *HTTP) Open(ctx context.Context, uuid string) (io.ReadCloser, error) {
	if !validUUID(uuid) {
		return nil, fmt.Errorf("image %.40q: %w", uuid, ErrNotExist)
	}
	resp, err := h.get(ctx, "file of image "+uuid, "images", uuid, "file")
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
