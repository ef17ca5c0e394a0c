package fencing

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// File is a file of one machine that the holders of a lock read and write, in
// turn. Whoever reads it sees a whole one: a new one is renamed into its place.
type File struct{ Path string }

type content struct {
	Token uint64 `json:"token"` // of the latest holder who was here
	Value string `json:"value"`
}

// Read returns the value, and keeps earlier holders from changing it.
func (f File) Read(token uint64) (value string, err error) {
	err = f.inTurn(token, func(c *content) { value = c.Value })
	return value, err
}

// Write replaces the value.
func (f File) Write(token uint64, value string) error {
	return f.inTurn(token, func(c *content) { c.Value = value })
}

// inTurn compares, changes and renames under a lock of the operating system, so
// that no other process of this machine comes in between.
func (f File) inTurn(token uint64, change func(*content)) error {
	unlock, err := lockedfile.MutexAt(f.Path + ".lock").Lock()
	if err != nil {
		return err
	}
	defer unlock()

	var c content
	data, err := os.ReadFile(f.Path)
	if err == nil {
		err = json.Unmarshal(data, &c)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	if c.Token > token {
		return ErrOlder
	}
	c.Token = token
	change(&c)
	return f.replace(c)
}

func (f File) replace(c content) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	next, err := os.Create(f.Path + ".new") // nobody else does, under the lock
	if err != nil {
		return err
	}
	_, err = next.Write(data)
	// Before the new name, so that a power cut leaves the old file or the new one.
	if err := errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), f.Path)
}
