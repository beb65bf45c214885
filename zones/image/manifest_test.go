package image

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

const goodManifest = `{"v":2,"uuid":"a9368831-958e-432d-a031-f8ce6768d190","owner":"9dce1460-0c4c-4417-ab8b-25ca478c5a78",
"name":"centos-7","version":"20160111","state":"active","disabled":false,"public":true,"published_at":"2016-01-11T16:15:17.000Z",
"type":"zvol","os":"linux","files":[{"sha1":"4cf6e5ff2a86f6e5e4b6e5a7c8c5d6e7f8091a2b","size":321,"compression":"gzip"}],
"requirements":{"networks":[{"name":"net0","description":"public"}],"ssh_key":true,"min_platform":{"7.0":"20160101T000000Z"}},
"users":[{"name":"root"}],"generate_passwords":true,"image_size":10240,"disk_driver":"virtio","nic_driver":"virtio","cpu_type":"host",
"something_new":{"x":1}}`

func TestParseManifest(t *testing.T) {
	m, err := ParseManifest([]byte(goodManifest))
	if err != nil {
		t.Fatal(err)
	}
	if m.State != "active" || m.ImageSize != 10240 || len(m.Passwords()) != 1 {
		t.Errorf("manifest = %+v", m)
	}
}

func TestEveryProblemIsNamed(t *testing.T) {
	b := `{"v":1,"uuid":"x","owner":"","name":"","version":"` + strings.Repeat("v", 200) + `","type":"zvol","os":"beos","published_at":"2016-01-11T16:15:17Z",
	"files":[{"sha1":"zz","size":0,"compression":"lzw","digest":"md5:1"}],"acl":["x"],"homepage":"javascript:x","users":[{"name":"a b"},{"name":"r"},{"name":"r"}],
	"requirements":{"min_ram":5,"max_ram":1,"networks":[{}]},"inherited_directories":["../x"],"origin":"y"}`
	_, err := ParseManifest([]byte(b))
	if !errors.Is(err, ErrManifest) {
		t.Fatalf("ParseManifest = %v", err)
	}
	for _, field := range []string{
		"v:", "uuid:", "owner:", "name:", "version:", "os:", "files[0].sha1:", "files[0].size:", "files[0].compression:", "files[0].digest:",
		"acl[0]:", "homepage:", "users[0].name:", "users[2].name:", "requirements:", "requirements.networks[0].name:", "inherited_directories:",
		"origin:", "nic_driver:", "disk_driver:", "cpu_type:", "image_size:",
	} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("the error does not name %s", field)
		}
	}
}

func TestComputeState(t *testing.T) {
	for body, want := range map[string]string{
		`{"v":2}`: "unactivated", `{"published_at":"2016-01-11T16:15:17Z"}`: "active",
		`{"published_at":"2016-01-11T16:15:17Z","disabled":true}`: "disabled", `{"state":"creating"}`: "creating", `{"state":"failed"}`: "failed",
	} {
		m, _ := ParseManifest([]byte(body))
		if m.State != want {
			t.Errorf("state of %s = %q, want %q", body, m.State, want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	f.Add([]byte(`{"v":2,"users":[{"name":"x"}],"files":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(out); err != nil {
			t.Errorf("a good manifest does not parse again: %v", err)
		}
	})
}
