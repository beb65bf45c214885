package image

import (
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/spf13/afero"
)

func TestNewFS_offersTheImagesOfAnyFileSystem(t *testing.T) {
	files := afero.NewMemMapFs()
	const uuid = "11111111-1111-4111-8111-111111111111"
	m := Manifest{V: 2, UUID: uuid, Owner: uuid, Name: "base", Version: "1", State: "active", Type: "zone-dataset", OS: "linux"}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"base.json": string(text), "base.tar.gz": "the bytes", "broken.json": "{"} {
		if err := afero.WriteFile(files, name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	src := NewFS("memory", files)
	list, err := src.List(t.Context())
	if err != nil || len(list) != 1 || list[0].UUID != uuid {
		t.Fatalf("List = %v, %v; want the one valid manifest", list, err)
	}
	r, err := src.Open(t.Context(), uuid)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "the bytes" {
		t.Errorf("file = %q, %v", b, err)
	}
	if _, err := src.Get(t.Context(), "22222222-2222-4222-8222-222222222222"); !errors.Is(err, ErrNotExist) {
		t.Errorf("Get of another: %v, want ErrNotExist", err)
	}
}
