// Storagenode keeps the bits of objects on one server, for the head node of its data centre.
//
//	storagenode join -head HOST:8443 -token-file FILE    once: trades a token from the head node for this machine's certificate
//	storagenode up -config storagenode.json              starts it in the foreground
//	storagenode help                                     lists everything else
//
// The configuration is one JSON object; "storagenode defaults" prints it with every default.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/daemons/internal/compute"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/daemons/internal/statedir"
	"github.com/mobulacloud/mobula/internal/pki"
)

const program = "storagenode"

// computeDir is where the agent of tasks keeps its file systems, below the node's directory.
const computeDir = "compute"

func main() {
	compute.Tool() // a task's zone knows this program by the names of its tools
	os.Exit(proc.Main(proc.OS(program), os.Args[1:], commands()))
}

func commands() []proc.Command {
	return []proc.Command{
		{Name: "up", Args: "-config FILE", Summary: "start, in the foreground (also without a command)", Run: up},
		{Name: "join", Args: "-head HOST:PORT -token-file FILE", Summary: "get this machine's certificate from the head node, with a token", Run: join},
		{Name: "sweep", Summary: "remove containers that tasks left when the node was killed", Run: sweep},
		{Name: "defaults", Summary: "print the configuration's defaults", Run: printDefaults},
	}
}

func printDefaults(ctx context.Context, env *proc.Env, args []string) error {
	if _, err := proc.Parse(env, proc.Flags(env, "defaults"), args); err != nil {
		return err
	}
	e := json.NewEncoder(env.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(defaults())
}

// joined is what join leaves for up, beside the credentials.
type joined struct {
	Head string `json:"head"` // address of the head node's door
}

// join trades a token for credentials. The token comes from a file or standard input, never from the command line, which others can see.
func join(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "join")
	dir := fs.String("dir", defaults().Dir, "`directory` of all state")
	headAddr := fs.String("head", "", "`address` of the head node's door for nodes, host:port")
	file := fs.String("token-file", "-", "`file` with the token; - is standard input")
	if _, err := proc.Parse(env, fs, args); err != nil {
		return err
	}
	if *headAddr == "" {
		return proc.Usage("join: -head is required")
	}
	text, err := readToken(env, *file)
	if err != nil {
		return err
	}
	token, err := pki.ParseToken(text)
	if err != nil {
		return err
	}
	state, err := statedir.Open(*dir, program)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := os.MkdirAll(state.Path("credentials"), 0o700); err != nil {
		return err
	}
	// The head node may be on its way up; its word on the token is final.
	var credentials *pki.Credentials
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxElapsedTime(30*time.Second))
	err = backoff.Retry(func() error {
		var dialer net.Dialer
		var err error
		credentials, err = pki.Join(ctx, pki.JoinConfig{Dir: state.Path("credentials"), Address: *headAddr, Token: token, Dial: dialer.DialContext})
		if _, unreachable := errors.AsType[*net.OpError](err); err != nil && !unreachable {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(retry, ctx))
	if err != nil {
		return fmt.Errorf("join %s: %w", *headAddr, err)
	}
	b, err := json.Marshal(joined{Head: *headAddr})
	if err != nil {
		return err
	}
	if err := statedir.WriteFile(state.Path("joined.json"), b, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "joined as %s\n", credentials.Identity().Name)
	return nil
}

func readToken(env *proc.Env, file string) (string, error) {
	in := env.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 4096))
	return cmp.Or(string(b), " "), err
}
