package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mobulacloud/mobula/sdc/authcache"
)

// keptTokens reads the token keys of a state directory, or makes them at the first start.
func keptTokens(dir string) (*authcache.TokenConfig, error) {
	file := filepath.Join(dir, "tokens.json")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		t := authcache.NewTokenConfig()
		if b, err = json.Marshal(t); err != nil {
			return nil, err
		}
		return &t, WriteFile(file, b, 0o600)
	}
	t := new(authcache.TokenConfig)
	if err == nil {
		err = json.Unmarshal(b, t)
	}
	if err != nil {
		return nil, fmt.Errorf("read token keys: %w", err)
	}
	return t, nil
}

// WriteFile writes a file so that after a crash it is there in full or not at all.
func WriteFile(file string, content []byte, mode os.FileMode) error {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
