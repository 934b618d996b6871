package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Secret is a secret as a configuration names it: {env.NAME} or {file.PATH}.
type Secret string

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 64 << 10

// Read returns the secret without white space around it. An error never shows
// it.
func (s Secret) Read() (string, error) {
	name, opened := strings.CutPrefix(string(s), "{")
	name, closed := strings.CutSuffix(name, "}")
	kind, name, _ := strings.Cut(name, ".")
	if !opened || !closed || name == "" || strings.ContainsAny(name, "{}") || kind != "env" && kind != "file" {
		return "", errors.New("need it as {env.NAME} or {file.PATH}, so that it is not part of the configuration")
	}
	text := os.Getenv(name)
	if kind == "file" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
		switch {
		case err != nil:
			return "", err
		case len(b) > maxSecret:
			return "", fmt.Errorf("%s has more than %d bytes", name, maxSecret)
		}
		text = string(b)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", fmt.Errorf("%s has no value", string(s))
	}
	return text, nil
}
