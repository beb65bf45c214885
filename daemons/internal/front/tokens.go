package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mobulacloud/mobula/daemons/internal/statedir"
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
		return &t, statedir.WriteFile(file, b, 0o600)
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
