package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/daemons/internal/compute"
	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
)

func TestMain(m *testing.M) {
	compute.Tool()                           // coal in these tests is the tests' own binary, and so are the tools in its zones
	if os.Getenv("MOBULA_TEST_COAL") != "" { // started by TestCrash
		main()
	}
	testscript.Main(m, map[string]func(){"coal": main})
}

// TestScripts runs testdata/script: the unmodified clients of npm's manta package against a coal of each script's own.
func TestScripts(t *testing.T) {
	testenv.NeedTool(t, "manta-clients", "mput")
	testenv.NeedTool(t, "curl", "curl")
	runScripts(t, "testdata/script", nil)
	runScripts(t, "testdata/large", nil)
}

// TestJobScripts runs testdata/jobs: compute with the unmodified mjob and mlogin.
func TestJobScripts(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "manta-clients", "mjob")
	runScripts(t, "testdata/jobs", func() []string { return []string{"-zones", "4"} })
}

// TestScriptsOnPostgres runs the same scripts with the records in PostgreSQL, in one database and on a ring of three.
func TestScriptsOnPostgres(t *testing.T) {
	testenv.NeedTool(t, "manta-clients", "mput")
	testenv.NeedTool(t, "curl", "curl")
	server := pgtest.Start(t, pgtest.Config{})
	for _, shards := range []int{1, 3} {
		t.Run(strconv.Itoa(shards), func(t *testing.T) {
			runScripts(t, "testdata/script", func() []string {
				var flags []string
				for range shards {
					flags = append(flags, "-metastore", newDatabase(t, server))
				}
				return flags
			})
		})
	}
}

var databases atomic.Int64

// newDatabase makes a database on a server and returns its URL.
func newDatabase(t *testing.T, server *pgtest.Server) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	name := fmt.Sprintf("coal%d", databases.Add(1))
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// TestCommandScripts runs testdata/command: coal's own command line, for which no client is needed.
func TestCommandScripts(t *testing.T) {
	testenv.NeedTool(t, "curl", "curl")
	runScripts(t, "testdata/command", nil)
}

// runScripts runs the scripts of a directory, each with flags of its own for coal.
func runScripts(t *testing.T, dir string, flags func() []string) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			if flags != nil {
				env.Setenv("COAL_FLAGS", strings.Join(flags(), "\n"))
			}
			env.Setenv("TMPDIR", env.WorkDir)
			return os.Mkdir(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"coal-up":      cmdCoalUp,
			"coal-stop":    cmdCoalStop,
			"coal-kill":    cmdCoalKill,
			"curl":         cmdCurl,
			"random":       cmdRandom,
			"concat":       cmdConcat,
			"setvar":       cmdSetvar,
			"lines":        cmdLines,
			"same-md5":     cmdSameMD5,
			"memory-below": cmdMemoryBelow,
			"address-of":   cmdAddressOf,
			"url-of":       cmdURLOf,
			"put-many":     cmdPutMany,
			"ssh-keygen":   cmdSSHKeygen,
			"login":        cmdLogin,
			"terminal":     cmdTerminal,
		},
	})
}

// running is the coal that a script has up.
type running struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone and err is set
	err    error
	stderr bytes.Buffer
}

var (
	runningMu sync.Mutex
	runningOf = map[*testscript.TestScript]*running{}
)

func current(ts *testscript.TestScript) *running {
	runningMu.Lock()
	defer runningMu.Unlock()
	r := runningOf[ts]
	if r == nil {
		ts.Fatalf("no coal is up")
	}
	return r
}

// coal-up [FLAG...]: start a coal on $WORK/coal, wait until it says that it is ready and take over `coal env`.
func cmdCoalUp(ts *testscript.TestScript, neg bool, args []string) {
	dir := filepath.Join(ts.Getenv("XDG_STATE_HOME"), "mobula", "coal") // coal's own default
	args = slices.Concat([]string{"up", "-manta", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-zones", "0"}, strings.FieldsFunc(ts.Getenv("COAL_FLAGS"), func(r rune) bool { return r == '\n' }), args)
	r := &running{exited: make(chan struct{})}
	r.cmd = exec.Command("coal", args...)
	r.cmd.Dir = ts.MkAbs(".")
	r.cmd.Env = environ(ts)
	r.cmd.Stderr = &r.stderr
	stdout, err := r.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(r.cmd.Start())
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "coal: ready") {
				ready <- true
			}
		}
		_, _ = io.Copy(io.Discard, stdout)
		r.err = r.cmd.Wait()
		close(r.exited)
	}()
	runningMu.Lock()
	runningOf[ts] = r
	runningMu.Unlock()
	ts.Defer(func() {
		_ = r.cmd.Process.Kill()
		<-r.exited
		// What a killed coal leaves on this machine, such as containers of tasks.
		if out, err := exec.Command("coal", "destroy", "-dir", dir).CombinedOutput(); err != nil {
			ts.Logf("coal destroy: %v\n%s", err, out)
		}
		runningMu.Lock()
		delete(runningOf, ts)
		runningMu.Unlock()
		if b := r.stderr.Bytes(); len(b) > 0 {
			ts.Logf("coal said:\n%s", b[max(0, len(b)-8000):])
		}
	})
	select {
	case <-ready:
		if neg {
			ts.Fatalf("coal came up")
		}
	case <-r.exited:
		if !neg {
			ts.Fatalf("coal ended before it was ready: %v\n%s", r.err, r.stderr.String())
		}
		return
	case <-time.After(time.Minute):
		ts.Fatalf("coal is not ready after a minute")
	}
	env := exec.Command("coal", "env")
	env.Env = environ(ts)
	out, err := env.Output()
	ts.Check(err)
	ts.Setenv("COAL_DIR", dir)
	for line := range strings.Lines(string(out)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if !ok {
			ts.Fatalf("coal env printed %q", line)
		}
		ts.Setenv(name, strings.Trim(value, `'"`))
	}
}

// environ is the environment of the script's own commands, for processes that the script does not start itself.
func environ(ts *testscript.TestScript) []string {
	return append(os.Environ(), "HOME="+ts.Getenv("HOME"), "XDG_STATE_HOME="+ts.Getenv("XDG_STATE_HOME"))
}

// coal-stop: SIGTERM, and the exit status must be 0.
func cmdCoalStop(ts *testscript.TestScript, neg bool, args []string) {
	r := current(ts)
	ts.Check(r.cmd.Process.Signal(syscall.SIGTERM))
	<-r.exited
	if (r.err != nil) != neg {
		ts.Fatalf("coal ended with %v", r.err)
	}
}

// coal-kill: SIGKILL.
func cmdCoalKill(ts *testscript.TestScript, neg bool, args []string) {
	r := current(ts)
	ts.Check(r.cmd.Process.Kill())
	<-r.exited
}

// curl [ARG...] FILE|URL: run curl on a URL, or on the one that a file holds; prints the answer's body.
func cmdCurl(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: curl [ARG...] FILE|URL")
	}
	url := args[len(args)-1]
	if !strings.HasPrefix(url, "http") {
		url = strings.TrimSpace(ts.ReadFile(url))
	}
	err := ts.Exec("curl", append(append([]string{"-sS"}, args[:len(args)-1]...), url)...)
	if (err != nil) != neg {
		ts.Fatalf("curl: %v", err)
	}
}

// random FILE SIZE: a file of random bytes.
func cmdRandom(ts *testscript.TestScript, neg bool, args []string) {
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	_, err = io.CopyN(f, mathrand.NewChaCha8(seed), size)
	ts.Check(err)
}

// concat FILE PART...: a file of others' content.
func cmdConcat(ts *testscript.TestScript, neg bool, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	for _, part := range args[1:] {
		p, err := os.Open(ts.MkAbs(part))
		ts.Check(err)
		_, err = io.Copy(f, p)
		p.Close()
		ts.Check(err)
	}
}

// setvar NAME FILE: an environment variable from a file's (or stdout's) content.
func cmdSetvar(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// lines FILE N: the number of lines.
func cmdLines(ts *testscript.TestScript, neg bool, args []string) {
	if got := strings.Count(ts.ReadFile(args[0]), "\n"); strconv.Itoa(got) != args[1] {
		ts.Fatalf("%s has %d lines, want %s", args[0], got, args[1])
	}
}

// same-md5 FILE: all lines of mmd5's output begin with the same sum.
func cmdSameMD5(ts *testscript.TestScript, neg bool, args []string) {
	sums := map[string]bool{}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		sum, _, _ := strings.Cut(line, " ")
		sums[sum] = true
	}
	if len(sums) != 1 {
		ts.Fatalf("sums are %v, want one", slices.Collect(maps.Keys(sums)))
	}
}

// memory-below MB: the most memory that coal ever had. The race detector's own memory does not count: there is no saying how much it is.
func cmdMemoryBelow(ts *testscript.TestScript, neg bool, args []string) {
	limit, err := strconv.Atoi(args[0])
	ts.Check(err)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", current(ts).cmd.Process.Pid))
	if errors.Is(err, os.ErrNotExist) {
		return // no /proc here
	}
	ts.Check(err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kb int
	_, err = fmt.Sscan(rest, &kb)
	ts.Check(err)
	ts.Logf("coal had at most %d MB", kb>>10)
	if kb>>10 > limit && !raceEnabled {
		ts.Fatalf("coal had %d MB, want at most %d", kb>>10, limit)
	}
}

// address-of VARIABLE: $ADDRESS from a URL in the environment.
func cmdAddressOf(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv("ADDRESS", strings.TrimPrefix(ts.Getenv(args[0]), "http://"))
}

// url-of VARIABLE PATH: the file url with a URL in the environment and a path.
func cmdURLOf(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs("url"), []byte(ts.Getenv(args[0])+args[1]), 0o666))
}

// put-many DIR N: N objects with a token, many at a time, named so that their order is not that of their creation;
// the file want-many gets what mls should print.
func cmdPutMany(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	dir := strings.Replace(args[0], "~~", "/"+ts.Getenv("MANTA_USER"), 1)
	ts.Check(ts.Exec("msign", "-E", "1h", "-m", "POST", "~~/tokens"))
	url := strings.TrimSpace(ts.ReadFile("stdout"))
	resp, err := http.Post(url, "application/json", nil)
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	ts.Check(err)
	_, token, ok := bytes.Cut(body, []byte(`{"token":"`))
	if !ok {
		ts.Fatalf("token request: %s: %s", resp.Status, body)
	}
	token = bytes.TrimSuffix(bytes.TrimSpace(token), []byte(`"}`))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer client.CloseIdleConnections()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("entry-%05d", i*7919%n)
	}
	var g errgroup.Group
	g.SetLimit(32)
	for _, name := range names {
		g.Go(func() error {
			req, err := http.NewRequest(http.MethodPut, ts.Getenv("MANTA_URL")+dir+"/"+name, strings.NewReader(name))
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Token "+string(token))
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusNoContent {
				msg, _ := io.ReadAll(resp.Body)
				return fmt.Errorf("PUT %s: %s: %s", name, resp.Status, msg)
			}
			return nil
		})
	}
	ts.Check(g.Wait())
	slices.Sort(names)
	ts.Check(os.WriteFile(ts.MkAbs("want-many"), []byte(strings.Join(names, "\n")+"\n"), 0o666))
}

// ssh-keygen NAME [ecdsa]: a key pair NAME and NAME.pub, 2048-bit RSA unless said.
func cmdSSHKeygen(ts *testscript.TestScript, neg bool, args []string) {
	var key crypto.Signer
	var block *pem.Block
	if len(args) > 1 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		der, err := x509.MarshalECPrivateKey(k)
		ts.Check(err)
		key, block = k, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	} else {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		ts.Check(err)
		key, block = k, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}
	}
	pub, err := ssh.NewPublicKey(key.Public())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pub"), ssh.MarshalAuthorizedKey(pub), 0o666))
}

// login ACCOUNT[/USER] KEY: whom the tools speak for from now on. KEY is a pair made by ssh-keygen, or "demo".
func cmdLogin(ts *testscript.TestScript, neg bool, args []string) {
	account, user, _ := strings.Cut(args[0], "/")
	file := ts.MkAbs(args[1])
	if args[1] == "demo" {
		file = filepath.Join(ts.Getenv("COAL_DIR"), "keys", "demo")
	}
	if err := os.Mkdir(filepath.Join(ts.Getenv("HOME"), ".ssh"), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		ts.Check(err)
	}
	for _, suffix := range []string{"", ".pub"} {
		b, err := os.ReadFile(file + suffix)
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(ts.Getenv("HOME"), ".ssh", args[1]+suffix), b, 0o600))
	}
	b, err := os.ReadFile(file + ".pub")
	ts.Check(err)
	pub, _, _, _, err := ssh.ParseAuthorizedKey(b)
	ts.Check(err)
	ts.Setenv("MANTA_USER", account)
	ts.Setenv("MANTA_SUBUSER", user)
	ts.Setenv("MANTA_KEY_ID", ssh.FingerprintLegacyMD5(pub))
}

// terminal FILE COMMAND [ARG...]: run a command on a terminal of 90 columns and 30 lines and type what FILE has once there is a prompt; stdout is what
// the terminal showed.
func cmdTerminal(ts *testscript.TestScript, neg bool, args []string) {
	typed := ts.ReadFile(args[0])
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = environ(ts)
	for _, name := range []string{"SSH_AUTH_SOCK", "MANTA_URL", "MANTA_USER", "MANTA_KEY_ID"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 90, Rows: 30})
	ts.Check(err)
	defer terminal.Close()
	stuck := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	var screen bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := terminal.Read(buf)
		screen.Write(buf[:n])
		if shown := bytes.TrimSuffix(screen.Bytes(), []byte("\x1b[0m")); typed != "" && (bytes.HasSuffix(shown, []byte("$ ")) || bytes.HasSuffix(shown, []byte("# "))) {
			_, err := terminal.WriteString(typed)
			ts.Check(err)
			typed = ""
		}
		if err != nil { // EIO at the end
			break
		}
	}
	err = cmd.Wait()
	_, _ = ts.Stdout().Write(screen.Bytes())
	ts.Logf("the terminal showed:\n%s", screen.Bytes())
	if (err != nil) != neg {
		ts.Fatalf("%s: %v", args[1], err)
	}
}
