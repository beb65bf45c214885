package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// s3Target speaks just enough S3: one bucket, path style, Signature Version 4 over unsigned payloads.
type s3Target struct {
	base, host, access, secret string
}

const s3Bucket = "load"

func (t *s3Target) setup(ctx context.Context, do doer) error {
	req, err := t.request(http.MethodPut, "/"+s3Bucket, nil, nil, 0)
	if err != nil {
		return err
	}
	resp, err := do(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusConflict {
		return fmt.Errorf("create bucket: %s", resp.Status)
	}
	return nil
}

func (t *s3Target) put(name string, body io.Reader, size int64) (*http.Request, error) {
	return t.request(http.MethodPut, "/"+s3Bucket+"/"+name, nil, body, size)
}

func (t *s3Target) get(name string) (*http.Request, error) {
	return t.request(http.MethodGet, "/"+s3Bucket+"/"+name, nil, nil, 0)
}

func (t *s3Target) list(limit int, marker string) (*http.Request, error) {
	q := url.Values{"list-type": {"2"}, "max-keys": {fmt.Sprint(limit)}}
	if marker != "" {
		q.Set("start-after", marker)
	}
	return t.request(http.MethodGet, "/"+s3Bucket, q, nil, 0)
}

func (t *s3Target) page(body io.Reader, limit int) (int, string, error) {
	var page struct {
		IsTruncated bool
		Contents    []struct{ Key string }
	}
	if err := xml.NewDecoder(body).Decode(&page); err != nil {
		return 0, "", err
	}
	n := len(page.Contents)
	if !page.IsTruncated || n == 0 {
		return n, "", nil
	}
	return n, page.Contents[n-1].Key, nil
}

// request builds a signed request (AWS Signature Version 4, region us-east-1).
func (t *s3Target) request(method, path string, query url.Values, body io.Reader, size int64) (*http.Request, error) {
	req, err := http.NewRequest(method, t.base+path, body)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	req.ContentLength = size
	const payload = "UNSIGNED-PAYLOAD"
	now := time.Now().UTC()
	stamp, day := now.Format("20060102T150405Z"), now.Format("20060102")
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", payload)
	canonical := strings.Join([]string{method, path, req.URL.RawQuery,
		"host:" + t.host, "x-amz-content-sha256:" + payload, "x-amz-date:" + stamp, "",
		"host;x-amz-content-sha256;x-amz-date", payload}, "\n")
	scope := day + "/us-east-1/s3/aws4_request"
	sum := sha256.Sum256([]byte(canonical))
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + t.secret)
	for _, part := range []string{day, "us-east-1", "s3", "aws4_request"} {
		key = mac(key, part)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+t.access+"/"+scope+
		", SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="+hex.EncodeToString(mac(key, text)))
	return req, nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
