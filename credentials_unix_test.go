//go:build unix

package pollsse

import (
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestBearerFileThatIsNone: a named pipe or a device is refused at once, and
// the exit does not wait for it.
func TestBearerFileThatIsNone(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/zero", t.TempDir()} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, &Handler{Request: Request{BearerFile: path}})
			r.stream().expect(`status {"state":"waiting",…"reason":"credentials"}`)
		})
	}
}

// TestBearerFileThroughLinks: Kubernetes mounts a link to a file in a
// directory that is a link, and replaces the latter.
func TestBearerFileThroughLinks(t *testing.T) {
	dir := t.TempDir()
	mount := func(version, token string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "token"), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(version, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	mount("v1", "one")
	path := filepath.Join(dir, "token")
	if err := os.Symlink("..data/token", path); err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Request: Request{BearerFile: path}, Schedule: Schedule{Interval: caddy.Duration(time.Second)}})
		r.up.answer(func(q *http.Request) (*http.Response, error) {
			return reply(200, `"`+q.Header.Get("Authorization")+`"`), nil
		})
		c := r.stream()
		c.expect("status …", `snapshot "Bearer one"`)
		mount("v2", "two")
		time.Sleep(time.Second)
		c.expect(`snapshot "Bearer two"`)
	})
}
