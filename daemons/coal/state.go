package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/mobulacloud/mobula/daemons/internal/statedir"
)

// Coal's directory:
//
//	coal.json, lock   see statedir
//	run.json          where the doors of the process that is up are
//	keys/             the demo account's key pair
//	tokens.json       keys of authentication tokens
//	records/          the metastore
//	nodes/N/          storage nodes
//	agent.sock, control.sock

// demoKey returns the demo account's key pair, which is made at the first start.
func demoKey(d *statedir.Dir) (private []byte, public string, err error) {
	file := d.Path("keys", "demo")
	private, err = os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		private, err = makeKey(file)
	}
	if err != nil {
		return nil, "", err
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", file, err)
	}
	public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " demo\n"
	return private, public, statedir.WriteFile(file+".pub", []byte(public), 0o644)
}

func makeKey(file string) ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return text, statedir.WriteFile(file, text, 0o600)
}

// doors is run.json: where a coal that is up can be reached.
type doors struct {
	Manta   string `json:"manta"`
	MantaV2 string `json:"manta_v2,omitempty"`
	Admin   string `json:"admin,omitempty"`
	KeyID   string `json:"key_id"`
}

func (r doors) write(d *statedir.Dir) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return statedir.WriteFile(d.Path("run.json"), b, 0o600)
}

func readDoors(dir string) (doors, error) {
	var r doors
	b, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}
