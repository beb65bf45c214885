// Package config reads the daemons' configuration: one JSON file, with nothing in it that the program does not know.
//
// Stability: internal to the daemons.
package config

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Load reads a file into v, which holds the defaults. No file is no change.
func Load(file string, v any) error {
	if file == "" {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("config %s: %w", file, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("config %s: more than one JSON object", file)
	}
	return nil
}
