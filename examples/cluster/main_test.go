package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// asExample has the test binary be the example.
const asExample = "EXAMPLE_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asExample) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestPageSurvives follows the page's stream through the death of its node.
func TestPageSurvives(t *testing.T) {
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), asExample+"=1", "PORT="+port)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the example ends with %v", err)
		}
	}()

	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var page judge.Page
	streams, snapshots, changes, killed := 0, 0, 0, false
	stream := func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:"+port+"/api/quotes", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		if page.ID != "" {
			req.Header.Set("Last-Event-ID", page.ID)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
			return // the nodes are not there yet
		}
		streams++
		for events := judge.NewReader(resp.Body); changes < 8; {
			e, err := events.Next()
			if err != nil {
				return
			}
			if e.Name == "snapshot" {
				snapshots++
			}
			if err := page.Apply(e); err != nil {
				t.Fatal(err)
			}
			if e.Name == "patch" {
				changes++
			}
			if changes == 3 && !killed {
				killed = true
				if _, err := stdin.Write([]byte("\n")); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for changes < 8 && ctx.Err() == nil {
		stream()
		time.Sleep(200 * time.Millisecond)
	}
	if streams < 2 || changes < 8 {
		t.Errorf("%d streams, %d snapshots and "+strconv.Itoa(changes)+" changes, want at least two streams and 8 changes", streams, snapshots)
	}
}
