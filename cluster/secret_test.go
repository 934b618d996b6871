package cluster_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string][]byte{"good": []byte("correct horse\r\n"), "empty": []byte("\n"), "large": bytes.Repeat([]byte("x"), 1<<17)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CLUSTER_TEST_SECRET", "battery staple")
	for _, c := range []struct{ secret, want, err string }{
		{"{env.CLUSTER_TEST_SECRET}", "battery staple", ""},
		{"{file." + dir + "/good}", "correct horse", ""},
		{"{env.CLUSTER_TEST_NONE}", "", "{env.CLUSTER_TEST_NONE} has no value"},
		{"{file." + dir + "/empty}", "", "has no value"},
		{"{file." + dir + "/large}", "", "has more than 65536 bytes"},
		{"{file." + dir + "/none}", "", "no such file"},
		{"correct horse", "", "need it as {env.NAME} or {file.PATH}"},
		{"{system.hostname}", "", "need it as"},
		{"{env.A}{env.B}", "", "need it as"},
		{"{env.}", "", "need it as"},
	} {
		got, err := cluster.Secret(c.secret).Read()
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %q, %v; want %q and an error with %q", c.secret, got, err, c.want, c.err)
		}
		if err != nil && strings.Contains(err.Error(), "correct horse") {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}
