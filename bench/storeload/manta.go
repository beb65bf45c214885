package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
)

// mantaTarget signs the date of each request, as Manta's clients do.
type mantaTarget struct {
	base, dir, keyID, copies string
	signer                   httpsig.Signer

	// One signature serves a second: what is measured is the store, and the clients share its cores.
	mu            sync.Mutex
	second        int64
	date          string
	authorization string
}

func newManta(base, account, keyFile string, copies int) (*mantaTarget, error) {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	signer, err := httpsig.ParsePrivateKey(text, nil)
	if err != nil {
		return nil, err
	}
	id := httpsig.KeyID{Account: account, Key: signer.PublicKey().MD5()}
	return &mantaTarget{base: base, dir: "/" + account + "/stor/load", keyID: id.String(), copies: strconv.Itoa(copies), signer: signer}, nil
}

func (t *mantaTarget) setup(ctx context.Context, do doer) error {
	req, err := t.request(http.MethodPut, "", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json; type=directory")
	resp, err := do(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("make directory: %s", resp.Status)
	}
	return nil
}

func (t *mantaTarget) put(name string, body io.Reader, size int64) (*http.Request, error) {
	req, err := t.request(http.MethodPut, "/"+name, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Durability-Level", t.copies)
	return req, nil
}

func (t *mantaTarget) get(name string) (*http.Request, error) {
	return t.request(http.MethodGet, "/"+name, nil)
}

func (t *mantaTarget) list(limit int, marker string) (*http.Request, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if marker != "" {
		q.Set("marker", marker)
	}
	return t.request(http.MethodGet, "?"+q.Encode(), nil)
}

func (t *mantaTarget) page(body io.Reader, limit int) (n int, next string, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	var last []byte
	for lines.Scan() {
		n++
		last = append(last[:0], lines.Bytes()...)
	}
	if n < limit || lines.Err() != nil {
		return n, "", lines.Err()
	}
	_, rest, ok := bytes.Cut(last, []byte(`"name":"`))
	name, _, ok2 := bytes.Cut(rest, []byte(`"`))
	if !ok || !ok2 {
		return n, "", fmt.Errorf("line %.100q has no name", last)
	}
	return n, string(name), nil
}

func (t *mantaTarget) request(method, rest string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequest(method, t.base+t.dir+strings.TrimSuffix(rest, "/"), body)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Unix() != t.second {
		signed := &http.Request{Method: method, URL: req.URL, Header: http.Header{}}
		if err := httpsig.SignRequest(context.Background(), t.signer, t.keyID, signed, now); err != nil {
			return nil, err
		}
		t.second, t.date, t.authorization = now.Unix(), signed.Header.Get("Date"), signed.Header.Get("Authorization")
	}
	req.Header["Date"] = []string{t.date}
	req.Header["Authorization"] = []string{t.authorization}
	return req, nil
}
