package slave

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// Name is what the program is called inside zones, and Object where clients expect a script that runs it: a public object of the account poseidon.
const (
	Name   = "medusa-agent"
	Object = "/poseidon/public/medusa/agent.sh"
)

// Script is the content of Object.
const Script = "#!/bin/bash\nexec " + Name + " \"$@\"\n"

// Config describes a slave. The zero value is that of a task, by its environment.
type Config struct {
	// Assets is the directory of the job's assets; nil means /assets.
	Assets *os.Root

	// User is the login of the job's account; "" means MANTA_USER.
	User string

	// URL is the task's door to the store; "" means MANTA_URL.
	URL string

	// Client makes requests; nil means http.DefaultClient.
	Client *http.Client

	// Log gets a line for each thing that happens; nil means os.Stderr.
	Log io.Writer

	// Env is the environment of programs, without what is made here; nil means that of the process.
	Env []string
}

// Main is the program Name: it serves one session and returns the exit status.
func Main([]string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := Run(ctx, Config{}); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Name, err)
		return 1
	}
	return 0
}

// Run serves one session: from the asset that says where, to the end of the program or of the connection. The program does not outlive it.
func Run(ctx context.Context, cfg Config) error {
	cfg.User = cmp.Or(cfg.User, os.Getenv("MANTA_USER"))
	cfg.URL = strings.TrimRight(cmp.Or(cfg.URL, os.Getenv("MANTA_URL")), "/")
	if cfg.Client == nil {
		cfg.Client = http.DefaultClient
	}
	if cfg.Log == nil {
		cfg.Log = os.Stderr
	}
	if cfg.Env == nil {
		cfg.Env = os.Environ()
	}
	if cfg.User == "" || cfg.URL == "" {
		return errors.New("MANTA_USER and MANTA_URL are not set: this program runs in a task")
	}
	if cfg.Assets == nil {
		root, err := os.OpenRoot("/assets")
		if err != nil {
			return err
		}
		defer root.Close()
		cfg.Assets = root
	}
	path, err := cfg.settle(ctx)
	if err != nil {
		return err
	}
	conn, resp, err := websocket.Dial(ctx, cfg.URL+path, &websocket.DialOptions{HTTPClient: cfg.Client, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		if resp != nil && resp.Body != nil {
			b, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // what there is helps
			return fmt.Errorf("attach to the session: %w: %s", err, bytes.TrimSpace(b))
		}
		return fmt.Errorf("attach to the session: %w", err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	fmt.Fprintf(cfg.Log, "%s: attached\n", Name)
	s := &session{cfg: cfg, conn: conn}
	err = s.serve(ctx)
	fmt.Fprintf(cfg.Log, "%s: session ends\n", Name)
	return err
}

var configName = regexp.MustCompile(`^medusa-config-[0-9A-Za-z-]{1,64}\.json$`)

// settle reads the asset that names the session and takes it away. It returns the path to attach to.
func (c *Config) settle(ctx context.Context) (string, error) {
	dir := c.User + "/stor"
	entries, err := fs.ReadDir(c.Assets.FS(), dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if !configName.MatchString(e.Name()) {
			continue
		}
		name := dir + "/" + e.Name()
		f, err := c.Assets.Open(name)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(io.LimitReader(f, 64<<10))
		f.Close()
		if err != nil {
			return "", fmt.Errorf("read %s: %w", name, err)
		}
		path, err := attachPath(text)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		// The user's side removes the object as well, so it is no matter if this does not succeed.
		if err := c.unlink(ctx, "/"+name); err != nil {
			fmt.Fprintf(c.Log, "%s: remove %s: %v\n", Name, name, err)
		}
		if err := c.Assets.Remove(name); err != nil {
			fmt.Fprintf(c.Log, "%s: %v\n", Name, err)
		}
		return path, nil
	}
	return "", fmt.Errorf("no medusa-config-*.json in /assets/%s", dir)
}

// attachPath returns the path of the signed URL in an asset.
func attachPath(text []byte) (string, error) {
	var asset struct {
		SignedURL string `json:"signed_url"`
	}
	if err := json.Unmarshal(text, &asset); err != nil {
		return "", err
	}
	u, err := url.Parse(asset.SignedURL)
	if err != nil {
		return "", errors.New("signed_url is no URL") // the error would show the signature
	}
	path := u.EscapedPath()
	parts := strings.Split(path, "/") // "", login, "medusa", "attach", job, "slave"
	if len(parts) != 6 || parts[0] != "" || parts[1] == "" || parts[2] != "medusa" || parts[3] != "attach" || parts[4] == "" || parts[5] != "slave" {
		return "", errors.New("signed_url is not that of a session")
	}
	return path, nil
}

func (c *Config) unlink(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, c.URL+(&url.URL{Path: path}).EscapedPath(), nil)
	if err != nil {
		return err
	}
	resp, err := c.Client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}
